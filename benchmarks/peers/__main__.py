"""Every peer, one line of JSON each; see the package. `python -m benchmarks.peers [NAME ...]`"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import petavox as pv
from benchmarks.common import data_folder, emit
from benchmarks.flood import released_model
from benchmarks.peers.environments import (
    GENERATOR_NEEDS,
    ROOM,
    Unavailable,
    python_of,
    run,
    source_of,
    version,
)
from petavox.ffn.model import load_model, logit
from petavox.ffn.predictor import Predictor

SECONDS = 8.0
FEABAS_SETTINGS = {
    "thumbnail_configs": {
        "thumbnail_mip_level": 2,
        "downsample": {"thumbnail_highpass": False},
    },
    "alignment_configs": {"meshing": {"mesh_size": 150}, "matching": {"working_mip_level": 0}},
}
"""Fitted to sections of 2,556 pixels: its defaults, a mesh of 600 pixels and matching at a quarter
of the resolution, are for sections of hundreds of thousands, and align these to 6.8 pixels."""


def tensorflow(folder: Path) -> dict[str, Any]:
    """The released network in TensorFlow, f32, against petavox in f32, bf16 and int8."""
    python = python_of("tensorflow", ["tensorflow-cpu"])
    model = load_model(released_model(folder))
    raw = pv.open(data_folder() / "fib25/training_sample2.h5/raw")
    image = (raw.read(pv.Box.of_shape((33, 33, 33), (100, 100, 100))).astype(np.float32) - 128) / 33
    seed = np.full((33, 33, 33), logit(0.05), np.float32)
    seed[16, 16, 16] = logit(0.95)
    exact = Predictor(model)
    case = folder / "case.npz"
    np.savez(case, image=image, seed=seed, logits=exact(image, seed))
    weights = data_folder() / "fib25/released_model/fib25_convstack3d_weights.npz"
    theirs = run(python, "tensorflow_network.py", str(weights), str(case), str(SECONDS))
    bf16, int8 = (
        Predictor(model, precision="bf16"),
        Predictor(model, precision="int8", sample=image),
    )
    ours = {p.precision: _rate(p, image, seed) for p in (exact, bf16, int8)}
    return {
        "version": version(python, "tensorflow-cpu"),
        **theirs,
        "petavox_fov_per_s": ours,
        "petavox_bf16_over_f32_peer": round(ours["bf16"] / theirs["f32_fov_per_s"], 2),
        "petavox_int8_over_f32_peer": round(ours["int8"] / theirs["f32_fov_per_s"], 2),
    }


def _rate(predictor: Predictor, image: np.ndarray, seed: np.ndarray) -> float:
    predictor(image, seed)
    predictor(image, seed)
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS / 2:
        predictor(image, seed)
        calls += 1
    return round(calls / (time.perf_counter() - began), 2)


def zarr(folder: Path) -> dict[str, Any]:
    """zarr-python on the arrays of benchmarks.volumes."""
    return _volumes(folder, "zarr", "zarr")


def cloudvolume(folder: Path) -> dict[str, Any]:
    """cloud-volume on the arrays of benchmarks.volumes."""
    return _volumes(folder, "cloudvolume", "cloud-volume")


def _volumes(folder: Path, name: str, package: str) -> dict[str, Any]:
    from benchmarks.volumes import textures

    python = python_of(name, [package])
    files = []
    for kind, values in textures().items():
        files.append(str(folder / f"{kind}.npy"))
        np.save(files[-1], values)
    found = run(python, "volumes.py", name, *files, str(folder / "written"))
    return {"version": version(python, package), **found}


def skimage(folder: Path) -> dict[str, Any]:
    """VI and adapted Rand of scikit-image, against petavox's, on the published result."""
    import h5py
    import skimage as package
    from skimage import metrics

    from petavox.score.overlap import adapted_rand, variation_of_information
    from petavox.score.pairs import pair_table

    fib = data_folder() / "fib25"
    with h5py.File(fib / "reference_result.h5") as f:
        result = f["segmentation"][:].astype(np.int64)
    with h5py.File(fib / "training_sample2.h5") as f:
        truth = f["labels"][:].astype(np.int64)
    both = (result > 0) & (truth > 0)
    began = time.perf_counter()
    t, a = truth[both], result[both]
    merge_split = metrics.variation_of_information(t, a)
    error = metrics.adapted_rand_error(t, a, ignore_labels=())[0]
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    table = pair_table(result, truth).labelled()
    vi, rand = variation_of_information(table), adapted_rand(table)
    mine = time.perf_counter() - began
    return {
        "version": package.__version__,
        "vi": round(float(sum(merge_split)), 6),
        "adapted_rand": round(float(error), 6),
        "seconds": round(seconds, 2),
        "petavox_vi": round(vi.split + vi.merge, 6),
        "petavox_adapted_rand": round(rand.error, 6),
        "petavox_seconds": round(mine, 2),
    }


def feabas(folder: Path) -> dict[str, Any]:
    """FEABAS's own scripts, from its source distribution, on the set of benchmarks.align."""
    from benchmarks.align import folder as alignment
    from benchmarks.align import made

    if not (alignment() / "metrics.py").exists():
        raise Unavailable(f"the alignment set's generator is not at {alignment()}")
    python = python_of("feabas", ["feabas"])
    source = source_of("feabas", version(python, "feabas"))
    tiles = made(ROOM / "sets", 0, str(python_of("generator", GENERATOR_NEEDS)))
    settings = folder / "settings.json"
    workers = len(os.sched_getaffinity(0))
    settings.write_text(json.dumps({"workers": workers, "changes": FEABAS_SETTINGS}))
    work = folder / "work"
    work.mkdir()
    found = run(
        python, "feabas_alignment.py",
        str(source), str(tiles), str(alignment()), str(work), str(settings), seconds=500,
    )  # fmt: skip
    return {"version": version(python, "feabas"), "set": "seed 0", "workers": workers, **found,
            "settings": json.dumps(FEABAS_SETTINGS)}  # fmt: skip


PEERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "tensorflow": tensorflow,
    "zarr": zarr,
    "cloudvolume": cloudvolume,
    "skimage": skimage,
    "feabas": feabas,
}


def main() -> None:
    """Run peers; a row for each, whatever happens."""
    options = argparse.ArgumentParser(description="Peers at the same work.")
    options.add_argument("names", nargs="*", choices=[*PEERS, []], default=[])
    given = options.parse_args()
    for name in given.names or PEERS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = PEERS[name](Path(folder))
            except Unavailable as e:
                found = {"not_measured": str(e)}
            emit(f"peer-{name}", **found, load=round(os.getloadavg()[0], 1))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
