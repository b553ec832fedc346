"""Pictures of failures: what each stage's output looks like when it went wrong, beside a good one.

    python -m benchmarks.failures

Every failure is made on purpose from real data (fib25, CC BY, Janelia FlyEM), so that a picture
shows one failure and nothing else. What it is: docs/images/failures/NAME.png. What it is not: a
measurement.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import petavox as pv
from benchmarks.common import data_folder
from petavox.provenance import write_atomically
from petavox.view import picture

OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "failures"
SEED = 11


def strip(name: str, *panels: tuple[str, np.ndarray], zoom: int = 2) -> None:
    """Write panels (title, RGB) side by side, each `zoom` times enlarged."""
    font = ImageFont.load_default(size=15)
    drawn = []
    for title, rgb in panels:
        big = np.repeat(np.repeat(rgb, zoom, axis=0), zoom, axis=1)
        page = Image.new("RGB", (big.shape[1], big.shape[0] + 22), "white")
        page.paste(Image.fromarray(big), (0, 22))
        ImageDraw.Draw(page).text((2, 2), title, fill="black", font=font)
        drawn.append(np.asarray(page))
    height = max(d.shape[0] for d in drawn)
    padded = [
        np.pad(d, ((0, height - d.shape[0]), (0, 8), (0, 0)), constant_values=255) for d in drawn
    ]
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"{name}.png"
    write_atomically(file, picture.png(np.concatenate(padded, axis=1)))
    print(f"{file}: {file.stat().st_size:,} bytes")


def stitch(image: np.ndarray) -> None:
    """A seam that fits, one that is 6 pixels off, and a blend of two tiles that do not fit."""
    section = image[100, :160, :200]
    off = section.copy()
    off[6:, 100:] = section[:-6, 100:]
    ghost = section.astype(float).copy()
    ghost[:, 70:130] = (ghost[:, 70:130] + np.roll(section, 7, axis=0)[:, 70:130]) / 2
    strip(
        "stitch",
        ("good: no seam to be seen", picture.grey(section)),
        ("a seam 6 pixels off", picture.grey(off)),
        ("ghosts: two tiles blended that do not fit", picture.grey(ghost.astype(np.uint8))),
    )


def align(image: np.ndarray) -> None:
    """The stack seen from the side: aligned, with a jump, jittering, drifting."""
    side = image[:, 120, :]
    rng = np.random.default_rng(SEED)

    def moved(shifts: np.ndarray) -> np.ndarray:
        return np.stack([np.roll(row, s) for row, s in zip(side, shifts, strict=True)])[:160, :200]

    n = np.arange(len(side))
    strip(
        "align",
        ("good", picture.grey(side[:160, :200])),
        ("a jump: one wrong pair", picture.grey(moved(np.where(n > 80, 14, 0)))),
        ("jitter: pairs found badly", picture.grey(moved(rng.integers(-4, 5, len(side))))),
        ("drift: straight things lean", picture.grey(moved((n * 0.35).astype(int)))),
    )


def contrast(image: np.ndarray) -> None:
    """Sections of uneven contrast from the side, and evened."""
    rng = np.random.default_rng(SEED)
    gain, lift = rng.uniform(0.5, 1.1, len(image)), rng.uniform(0, 60, len(image))
    uneven = (image * gain[:, None, None] + lift[:, None, None]).clip(0, 255).astype(np.uint8)
    even = pv.contrast(uneven, voxel_size=(10, 10, 10))
    strip(
        "contrast",
        ("uneven sections, from the side", picture.grey(uneven[:160, 120, :200])),
        ("after petavox contrast", picture.grey(even[:160, 120, :200])),
    )


def segment(image: np.ndarray, truth: np.ndarray) -> None:
    """Objects as they should be; merged; split; holes."""
    z, part = 125, (slice(40, 200), slice(40, 200))
    grey, ids = image[z][part], truth[z][part]
    sizes = np.bincount(ids.ravel().astype(np.int64))
    sizes[0] = 0
    biggest = np.argsort(-sizes)[:6]
    merged = np.where(np.isin(ids, biggest[:4]), biggest[0], ids)
    split = ids.copy()
    stripes = (np.indices(ids.shape).sum(axis=0) // 28) % 3
    for i, body in enumerate(biggest):
        here = ids == body
        split[here] = 900_000 + 10 * i + stripes[here]
    holes = np.where(np.isin(ids, np.unique(ids)[::2]), 0, ids)
    strip(
        "segment",
        ("good", picture.overlay(grey, ids)),
        ("merger: 4 bodies, one colour", picture.overlay(grey, merged)),
        ("splits: one body, many", picture.overlay(grey, split)),
        ("low fill: bodies missing", picture.overlay(grey, holes)),
    )


def reconcile(image: np.ndarray, truth: np.ndarray) -> None:
    """Labels of blocks before they are joined, and after."""
    z, part = 125, (slice(40, 200), slice(40, 200))
    grey, ids = image[z][part], truth[z][part]
    block = (np.indices(ids.shape) // 64).sum(axis=0).astype(np.uint64)
    cut = ids * np.uint64(16) + block
    strip(
        "reconcile",
        ("objects cut at the faces of blocks", picture.overlay(grey, cut)),
        ("reconciled", picture.overlay(grey, ids)),
    )


def shapes(truth: np.ndarray) -> None:
    """A skeleton as it should be, and with whiskers; from the front, over the body's shadow."""
    part = truth[::2, ::2, ::2]
    sizes = np.bincount(part.ravel().astype(np.int64))
    sizes[0] = 0
    mask = (part == int(np.argsort(-sizes)[7])).astype(np.uint64)
    shadow = (
        np.where(mask.any(axis=0), 215, 255).astype(np.uint8).repeat(3, axis=0).repeat(3, axis=1)
    )

    def drawn(scale: float, const_nm: float) -> np.ndarray:
        teasar = {"scale": scale, "const_nm": const_nm}
        skeleton = pv.skeletonize(mask, voxel_size=(20, 20, 20), dust_nm3=1e6, teasar=teasar)[1]
        page = Image.fromarray(np.repeat(shadow[..., None], 3, axis=-1))
        pen = ImageDraw.Draw(page)
        for a, b in skeleton.edges:
            ends = [tuple(float(c) * 3 / 20 for c in skeleton.vertices[i][:0:-1]) for i in (a, b)]
            pen.line(ends, fill=(200, 30, 30), width=2)
        return np.asarray(page)

    strip(
        "skeleton",
        ("good: --scale 1.5 --const-nm 300", drawn(1.5, 300.0)),
        ("whiskers: --scale 0.5 --const-nm 20", drawn(0.5, 20.0)),
        zoom=1,
    )


def damage(image: np.ndarray) -> None:
    """What quality control looks for: a fold, dust, and a section out of focus."""
    section = image[100, :160, :200].copy()
    fold = np.concatenate([section[:, :90], section[:, 112:], section[:, 178:]], axis=1)
    fold[:, 86:94] = (fold[:, 86:94] * 0.35).astype(np.uint8)
    dust = section.copy()
    y, x = np.indices(dust.shape)
    dust[(y - 60) ** 2 + (x - 130) ** 2 < 22**2] = 20
    strip(
        "damage",
        ("a fold: dark line, tissue missing", picture.grey(fold)),
        ("dust", picture.grey(dust)),
        ("out of focus", picture.grey(ndimage.gaussian_filter(section, 3))),
    )


def main() -> None:
    """Make all pictures."""
    sample = data_folder() / "fib25" / "training_sample2.h5"
    image = pv.open(sample / "raw").read()
    truth = pv.open(sample / "labels").read().astype(np.uint64)
    shapes(truth)
    stitch(image)
    damage(image)
    align(image)
    contrast(image)
    segment(image, truth)
    reconcile(image, truth)


if __name__ == "__main__":
    main()
