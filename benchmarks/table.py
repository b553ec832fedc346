"""The page docs/benchmarks.md and its picture, from the lines that benchmarks have kept.

    python -m benchmarks.table

What it is: results/*.jsonl turned into text and a picture of their history, nothing typed by hand.
What it is not: a measurement.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import scaling
from benchmarks.common import RESULTS

ROWS = 40
"""Figures of one line that are shown; the file has them all."""
DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
PICTURE = DOCS / "images" / "benchmarks.png"
ABOUT = ("machine", "commit", "when", "petavox", "benchmark")
NAMES = ("data", "set", "kind", "dtype", "format", "what", "box", "precision", "model", "lanes",
         "network", "between", "stage", "method")  # fmt: skip
"""What tells one result of a benchmark from another: the newest of each is shown."""
HEAD = """# Benchmarks

`make bench` runs what fits into 40 minutes on two cores and makes this page; `python -m
benchmarks.run --list` names the claims, `python -m benchmarks.NAME` runs one. Every figure is the
newest line of its kind in `benchmarks/results/`, where the history is; `commit` is the state of the
code that was measured, `load` how many processes wanted the cores: above 2 on a machine of two
cores, wall times and rates say little, processor seconds and ratios more.
"""


class Watched(NamedTuple):
    """A figure of the table at the top and of the picture."""

    what: str
    file: str
    figure: str
    unit: str = ""
    among: tuple[tuple[str, Any], ...] = ()


CORNER = (("box", "0:64,0:96,0:96"), ("asked", "auto"))
CORNER_INT8 = (("box", "0:64,0:96,0:96"), ("asked", "int8"))
WATCHED = (
    Watched("flood of a corner", "flood", "fov_per_s", "FOV/s", CORNER),
    Watched("the same, share of the bare network", "flood", "share_of_bare_rate", "", CORNER),
    Watched("flood of a corner, int8", "flood", "fov_per_s", "FOV/s", CORNER_INT8),
    Watched("bare network, f32", "network", "f32.one_process.fov_per_s", "FOV/s"),
    Watched("bare network, bf16", "network", "bf16.one_process.fov_per_s", "FOV/s"),
    Watched("bare network, int8", "network", "int8.one_process.fov_per_s", "FOV/s"),
    Watched("int8 over bf16", "network", "ratio_to_bf16.int8"),
    Watched("bare network, bf16, a process a core", "network",
            "bf16.a_process_a_core.fov_per_s", "FOV/s"),
    Watched("TensorFlow, f32", "peer-tensorflow", "f32_fov_per_s", "FOV/s"),
    Watched("petavox bf16 over TensorFlow f32", "peer-tensorflow", "petavox_bf16_over_f32_peer"),
    Watched("petavox int8 over TensorFlow f32", "peer-tensorflow", "petavox_int8_over_f32_peer"),
    Watched("lanes give the plain labels", "lanes", "equal"),
    Watched("training step, bf16 over f32, processor", "training", "bf16_over_f32_processor"),
    Watched("alignment, adjacent sections", "align", "adjacent_px[0]", "px",
            (("set", "seed 0"),)),
    Watched("FEABAS, adjacent sections", "peer-feabas", "adjacent_px[0]", "px"),
    Watched("OME-Zarr labels, write", "volumes", "write_mb_per_s", "MB/s",
            (("kind", "labels"), ("format", "ome-zarr"))),
    Watched("zarr-python labels, sharded, write", "peer-zarr", "labels_sharded.write_mb_per_s",
            "MB/s"),
    Watched("cloud-volume labels, write", "peer-cloudvolume", "labels.write_mb_per_s", "MB/s"),
    Watched("meshes, processor", "meshes", "cpu_seconds", "s"),
    Watched("loop over zmesh, processor", "meshes", "plain_cpu_seconds", "s"),
    Watched("skeletons, processor", "skeletons", "cpu_seconds", "s"),
    Watched("loop over kimimaro, processor", "skeletons", "plain_cpu_seconds", "s"),
    Watched("scores, seconds", "peer-skimage", "petavox_seconds", "s"),
    Watched("scikit-image scores, seconds", "peer-skimage", "seconds", "s"),
    Watched("U-Net + watershed, adapted Rand", "unet", "unet_watershed.adapted_rand"),
    Watched("flood after equal training, adapted Rand", "unet", "flood_filling.adapted_rand"),
    Watched("demo", "demo", "seconds", "s"),
    Watched("`make bench`", "bench", "minutes", "min"),
)  # fmt: skip


def lines_of(file: Path) -> list[dict[str, Any]]:
    """All results of a benchmark, oldest first."""
    return [json.loads(line) for line in file.read_text().splitlines() if line.strip()]


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Names and values of figures; nested ones with dotted names."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if name == "conventions":
            continue  # words, the same in every line
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for i, item in enumerate(value):
                rows += flat(item, f"{prefix}{name}[{i}].")
        else:
            rows.append((prefix + name, value))
    return rows


def text(value: Any) -> str:
    """A value as it stands in the page."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def figure(line: dict[str, Any], name: str) -> Any:
    """A figure by its dotted name, `a.b[0]`; None where the line has none."""
    name, _, index = name.partition("[")
    value: Any = line
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value[int(index[:-1])] if index and isinstance(value, list) else value


def history(watched: Watched) -> list[tuple[str, Any]]:
    """When and what, oldest first."""
    file = RESULTS / f"{watched.file}.jsonl"
    if not file.exists():
        return []
    wanted = [x for x in lines_of(file) if all(x.get(k) == v for k, v in watched.among)]
    found = [(x["when"], figure(x, watched.figure)) for x in wanted]
    return [(when, value) for when, value in found if value is not None]


def glance() -> str:
    """The table at the top."""
    rows = ["| figure | newest | measured | times |", "|---|---|---|---|"]
    for watched in WATCHED:
        past = history(watched)
        newest = f"{text(past[-1][1])} {watched.unit}".strip() if past else "not measured"
        when = past[-1][0][:16].replace("T", " ") if past else ""
        rows.append(f"| {watched.what} | {newest} | {when} | {len(past)} |")
    return "\n".join(rows) + "\n"


def section(file: Path) -> str:
    """The newest line of every kind of result of one benchmark."""
    newest: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in lines_of(file):
        newest[tuple(str(line.get(n)) for n in NAMES)] = line
    parts = [f"## {file.stem}\n"]
    for line in newest.values():
        figures = flat({k: v for k, v in line.items() if k not in ABOUT})
        about = ", ".join(str(line[k]) for k in ("machine", "commit", "when") if k in line)
        rows = "\n".join(f"| {name} | {text(value)} |" for name, value in figures[:ROWS])
        if len(figures) > ROWS:
            rows += f"\n| {len(figures) - ROWS} more | in benchmarks/results/{file.name} |"
        parts.append(f"{about}\n\n| figure | value |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


def draw() -> bool:
    """The history of every number of the table, small pictures side by side; False if none."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    shown = [
        (w, [float(v) for _, v in past])
        for w in WATCHED
        if (past := history(w)) and not isinstance(past[-1][1], bool)
    ]
    if not shown:
        return False
    across = 4
    down = -(-len(shown) // across)
    drawn, axes = pyplot.subplots(down, across, figsize=(3 * across, 1.7 * down), squeeze=False)
    for place in axes.flat:
        place.set_visible(False)
    for place, (watched, values) in zip(axes.flat, shown, strict=False):
        place.set_visible(True)
        place.plot(range(1, len(values) + 1), values, "o-", markersize=3, linewidth=1)
        place.set_ylim(0, 1.15 * max(max(values), 1e-9))
        place.set_xticks([])
        place.tick_params(labelsize=7)
        place.set_title(f"{watched.what}\n{watched.unit}".strip(), fontsize=7)
    drawn.tight_layout()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(PICTURE, dpi=90, metadata={"Software": None})
    pyplot.close(drawn)
    return True


def growth() -> str:
    """How stages grow with their work: a table and a picture; "" where none was measured."""
    curves = scaling.newest(RESULTS)
    if not curves:
        return ""
    picture = PICTURE.with_name("scaling.png")
    scaling.draw(curves, picture)
    rows = [
        "| stage | processor seconds at x1, x2, x4, x8 | exponent of the last doubling "
        "| peak memory, MB | verdict | measured |",
        "|---|---|---|---|---|---|",
    ]
    for name, c in sorted(curves.items()):
        seconds, memory = (", ".join(map(text, c[k])) for k in ("cpu_seconds", "peak_mb"))
        verdict = "worse than n log n" if c["worse_than_n_log_n"] else "n log n or better"
        rows.append(
            f"| {name} | {seconds} | {c['exponent_last']:.2f} | {memory} | {verdict} "
            f"| {c['when'][:16].replace('T', ' ')} |"
        )
    shown = f"![Time and memory against the work]({picture.relative_to(DOCS)})"
    return "## scaling\n\n" + "\n".join(rows) + f"\n\n{shown}\n"


def main() -> None:
    """Write the page and its picture."""
    pictured = draw()
    picture = (
        f"![Every run of these figures, oldest to newest]({PICTURE.relative_to(DOCS)})\n"
        if pictured
        else ""
    )
    files = [f for f in sorted(RESULTS.glob("*.jsonl")) if f.stem != "scaling"]
    PAGE.write_text("\n".join([HEAD, glance(), picture, growth(), *map(section, files)]))
    print(PAGE)


if __name__ == "__main__":
    main()
