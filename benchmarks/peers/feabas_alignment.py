"""Runs in FEABAS's environment: its own scripts on the alignment set, and the errors of its meshes.

    python feabas_alignment.py SOURCE TILES METRICS WORK SETTINGS.json

SOURCE: the unpacked source distribution of FEABAS, whose scripts and default settings are used.
TILES: a set of gen_sections.py.  METRICS: folder of metrics.py.  WORK: an empty folder.
SETTINGS: what differs from the defaults, {"alignment_configs": {...}, ...}, and "workers".
Stages in the order of its manual; rendering of the aligned stack is left out, errors need only the
meshes.
"""

import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml

STAGES = (
    ("stitch", "stitch_main.py", "matching"),
    ("stitch", "stitch_main.py", "optimization"),
    ("render_sections", "stitch_main.py", "rendering"),
    ("align", "thumbnail_main.py", "downsample"),
    ("align", "thumbnail_main.py", "match"),
    ("align", "thumbnail_main.py", "optimization"),
    ("align", "align_main.py", "meshing"),
    ("align", "align_main.py", "matching"),
    ("align", "align_main.py", "optimization"),
)


def prepared(source, tiles, work, settings):
    """The working directory of its manual, and the folder to run scripts in."""
    meta = json.loads((tiles / "truth.json").read_text())
    project, here = work / "project", work / "feabas"
    shutil.copytree(tiles / "stitch" / "stitch_coord", project / "stitch" / "stitch_coord")
    shutil.copytree(source / "configs", here / "configs")
    (project / "configs").mkdir()
    general = here / "configs" / "general_configs.yaml"
    values = yaml.safe_load(general.read_text())
    values |= {
        "working_directory": str(project),
        "cpu_budget": settings["workers"],
        "full_resolution": meta["res"],
        "section_thickness": meta["thick"],
        "console_level": "ERROR",
    }
    general.write_text(yaml.safe_dump(values))
    for name, changes in settings["changes"].items():
        (project / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(changes))
    return project, here


def ran(source, here):
    """Run all stages; seconds of each kind. A stage that fails ends it with its last words."""
    seconds = {}
    # it starts as many processes as it may use cores: each with a thread, or they wait for another
    alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    for kind, script, mode in STAGES:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(source / "scripts" / script), "--mode", mode],
            cwd=here, capture_output=True, text=True, check=False, env=os.environ | alone,
        )  # fmt: skip
        seconds[kind] = seconds.get(kind, 0.0) + time.perf_counter() - began
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing said").splitlines()
            raise SystemExit(f"{script} --mode {mode}: {said[-1][:200]}")
    return {k: round(v, 1) for k, v in seconds.items()}


def through(mesh, points):
    """Points (n, 2) xy through a mesh, from its first place to its last; NaN outside."""
    from feabas import constant

    out = np.full(np.shape(points), np.nan)
    triangle, weights = mesh.cart2bary(np.asarray(points, float), constant.MESH_GEAR_INITIAL)
    inside = triangle >= 0
    if inside.any():
        out[inside] = mesh.bary2cart(triangle[inside], weights[inside], constant.MESH_GEAR_MOVING)
    return out


def errors(tiles, metrics, project):
    """Seam, adjacent and span in full-resolution pixels: [mean, p95]."""
    from feabas.mesh import Mesh
    from feabas.stitcher import Stitcher

    sys.path.insert(0, str(metrics))
    judge = importlib.import_module("metrics")
    truth = judge.Truth(str(tiles))
    tile_meshes, section_meshes = [], []
    for k in range(truth.nz):
        stitcher = Stitcher.from_h5(
            str(project / f"stitch/tform/s{k:04d}.h5"), load_matches=False, load_meshes=True
        )
        names = [os.path.basename(p) for p in stitcher.imgrelpaths]
        order = [names.index(f"t{i:02d}.png") for i in range(truth.grid**2)]
        tile_meshes.append([stitcher.meshes[i] for i in order])
        mesh = Mesh.from_h5(str(project / f"align/tform/s{k:04d}.h5"))
        mesh.change_resolution(truth.meta["res"])
        section_meshes.append(mesh)
    seams = judge.stitch_metrics(truth, lambda k, i, p: through(tile_meshes[k][i], p))["seam"]
    found = judge.align_metrics(
        truth,
        lambda k, i, p: through(tile_meshes[k][i], p),
        lambda k, s: through(section_meshes[k], s),
    )
    pair = {"seam_px": seams, "adjacent_px": found["adj"], "span_px": found["span"]}
    figures = {k: [round(v["mean"], 3), round(v["p95"], 3)] for k, v in pair.items()}
    return figures | {"covered": round(found["covered"], 3)}


def main():
    """Run and judge; one line of JSON."""
    source, tiles, metrics, work = (Path(a).absolute() for a in sys.argv[1:5])
    settings = json.loads(Path(sys.argv[5]).read_text())
    project, here = prepared(source, tiles, work, settings)
    os.chdir(here)  # FEABAS looks for its settings where it is started
    seconds = ran(source, here)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = errors(tiles, metrics, project)
    print(
        json.dumps(
            {
                **found,
                "seconds": seconds,
                "seconds_total": round(sum(seconds.values()), 1),
                "cpu_seconds": round(spent.ru_utime + spent.ru_stime, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
