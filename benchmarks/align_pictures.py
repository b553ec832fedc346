"""The pictures of docs/alignment.md.

    python -m benchmarks.align_pictures [--real FOLDER]

What it is: what the settings of the solve do, drawn from its own energy: which wavelengths of a
distortion are corrected, and what a match far off still pulls. FOLDER is what
`python -m benchmarks.align_real --keep FOLDER` left: the overlay of two neighbours before and
after alignment is drawn from it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from petavox.align import solve
from petavox.align.frames import Field, Lattice
from petavox.align.stack import AlignSettings
from petavox.stages.render import resampled
from petavox.stages.section_fields import read_fields
from petavox.volume import opening

OUT = Path(__file__).resolve().parent.parent / "docs" / "images"


def corrected(wavelength: float, stiffness: solve.Stiffness, spacing: float) -> float:
    """Share of a sinusoidal distortion of this wavelength (px) that the solve takes up."""
    step = 48.0
    axis = np.arange(0, 1200, step)
    p = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    wave = np.zeros(p.shape)
    wave[:, 0] = 3 * np.sin(2 * np.pi * p[:, 1] / wavelength)
    lattice = Lattice.covering((0, 0), (1200, 1200), spacing)
    m = solve.Matches(0, 1, p + wave, p, np.ones(len(p)), step)
    solved = solve.relax({1: Field()}, {1: lattice}, [m], stiffness, fixed={0: Field()})
    moved = solved.fields[1](p)[:, 0] - p[:, 0]
    inner = (np.abs(p - 600) < 360).all(1)
    return float((moved * wave[:, 0])[inner].sum() / (wave[inner, 0] ** 2).sum())


def settings_picture() -> None:
    """docs/images/align_settings.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    s = AlignSettings()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    lengths = np.array([150, 200, 270, 360, 480, 640, 850], float)
    for smooth, jerk in ((s.smooth_px, s.jerk_px), (s.smooth_px, 120.0), (120.0, s.jerk_px)):
        stiff = solve.Stiffness(smooth=smooth, jerk=jerk, slope=s.slope_px, tolerance=50.0)
        share = [corrected(w, stiff, 1.25 * s.jerk_px) for w in lengths]
        left.plot(lengths, share, "o-", ms=3, label=f"smooth_px {smooth:g}, jerk_px {jerk:g}")
    left.set(xlabel="wavelength of the distortion, px", ylabel="share corrected", ylim=(0, 1.05))
    left.set_xscale("log")
    left.set_xticks([150, 200, 300, 500, 800], ["150", "200", "300", "500", "800"])
    left.minorticks_off()
    left.legend(fontsize=8)
    r = np.linspace(0, 40, 200)
    for t in (4.0, s.tolerance_px, 18.0):
        right.plot(r, r / (1 + (r / t) ** 2) ** 2, label=f"tolerance_px {t:g}")
    right.set(xlabel="residual of a match, px", ylabel="force of the match")
    right.legend(fontsize=8)
    figure.savefig(OUT / "align_settings.png", dpi=110)
    plt.close(figure)


def overlay(folder: Path, name: str = "vnc") -> None:
    """docs/images/align_overlay.png: neighbours in red and green, before and after."""
    source = opening.open(folder / f"{name}.zarr")
    fields = read_fields(folder / name, source.voxel_size.x)
    y, x = (np.arange(n * 0.2, n * 0.8, dtype=float) for n in source.shape[1:])
    pictures = []
    for aligned in (False, True):
        seen = []
        for k in sorted(fields)[2:4]:
            f = fields[k] if aligned else Field()
            box = Lattice.covering((0, 0), np.array(source.shape[1:], float), 32.0)
            seen.append(resampled(source, None, k, f.inverse(box), y, x))
        pictures.append(np.stack([seen[0], seen[1], np.minimum(*seen) // 2], -1))
    Image.fromarray(np.hstack(pictures)).save(OUT / "align_overlay.png", optimize=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path)
    given = parser.parse_args()
    settings_picture()
    if given.real is not None:
        overlay(given.real)


if __name__ == "__main__":
    main()
