"""Do neighbouring sections agree: correlation patch by patch, pictures, suspects.

What it is: normalised cross-correlation of the patches of two aligned sections at the place where
they are (no search), overlays of two sections as colours, and the reasoning from the correlations
of a stack to the sections that are at fault. What it is not: the alignment, or the size of what is
left over (petavox.align.shift).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from petavox.errors import BadInput
from petavox.settings import Settings

Floats = NDArray[np.float32]


def patch_correlation(
    a: NDArray[Any],
    b: NDArray[Any],
    valid_a: NDArray[np.bool_],
    valid_b: NDArray[np.bool_],
    *,
    patch: int = 64,
    step: int = 32,
    device: str = "cpu",
) -> Floats:
    """Normalised cross-correlation of two batches of sections, patch by patch.

    a, b: (n, y, x), any numeric type; pair k is a[k], b[k].  valid_a, valid_b: (n, y, x) bool;
    only pixels valid in both count.  patch, step: px; a patch is cut down to a smaller section.
    Gives (n, gy, gx) float32 in -1..1; NaN where under half of a patch is valid in both, or one
    of them is constant. Patch (i, j) covers pixels [i * step, i * step + patch).
    Raises BadInput for shapes that differ.
    """
    if not a.shape == b.shape == valid_a.shape == valid_b.shape or a.ndim != 3:
        raise BadInput(
            f"sections to correlate are {a.shape} and {b.shape}, masks {valid_a.shape} and "
            f"{valid_b.shape}: all must be the same (n, y, x)."
        )
    if min(a.shape[1:]) == 0:
        return np.full((a.shape[0], 0, 0), np.nan, np.float32)
    size = (min(patch, a.shape[1]), min(patch, a.shape[2]))
    both = torch.from_numpy(valid_a & valid_b).to(device).float()[:, None]
    ta, tb = (_centred(v, both, device) for v in (a, b))

    def mean(t: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(t, size, stride=step)

    n = mean(both)
    safe = n.clamp_min(1e-6)
    ma, mb = mean(ta) / safe, mean(tb) / safe
    va = (mean(ta * ta) / safe - ma * ma).clamp_min(0)
    vb = (mean(tb * tb) / safe - mb * mb).clamp_min(0)
    r = (mean(ta * tb) / safe - ma * mb) / torch.sqrt(va * vb).clamp_min(1e-12)
    fit = (n >= 0.5) & (va > 1e-6) & (vb > 1e-6)
    r = torch.where(fit, r.clamp(-1, 1), torch.nan)
    return r[:, 0].cpu().numpy()


def _centred(values: NDArray[Any], both: torch.Tensor, device: str) -> torch.Tensor:
    """Values with the mean and spread of what is valid taken off, 0 elsewhere: keeps float32
    sums exact enough for 16-bit images."""
    t = torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)[:, None]
    n = both.sum((2, 3), keepdim=True).clamp_min(1)
    t = (t - (t * both).sum((2, 3), keepdim=True) / n) * both
    return t / torch.sqrt((t * t).sum((2, 3), keepdim=True) / n).clamp_min(1e-6)


def overlay(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.uint8]:
    """Two sections (y, x) as one picture (y, x, 3): the first in red, the second in green.

    Where they agree it is yellow or black. Each is stretched between its 1st and 99th percentile.
    """
    out = np.zeros((*a.shape, 3), np.uint8)
    for channel, values in enumerate((a, b)):
        seen = values[values > 0]
        low, high = np.percentile(seen, [1, 99]) if seen.size else (0.0, 1.0)
        grey = (values.astype(np.float32) - low) / max(float(high - low), 1.0)
        out[..., channel] = np.where(values > 0, np.clip(grey, 0, 1) * 255, 0).astype(np.uint8)
    return out


class SuspectSettings(Settings):
    """When a pair of sections counts as bad.

    drop: how far below the stack's median correlation, as a share of it.  spreads: and how many
    robust standard deviations (of the window's correlations).  window: pairs on either side.
    patch_share: a pair whose median is fine is named too if this share of its patches is below.
    """

    drop: float = 0.25
    spreads: float = 4.0
    window: int = 25
    patch_share: float = 0.15


@dataclass(frozen=True)
class Suspect:
    """A section at fault, or a step between two.

    section: z.  cause: in words.  correlation: the lowest of the pairs it is part of.
    """

    section: int
    cause: str
    correlation: float


def low_pairs(medians: Sequence[float], settings: SuspectSettings | None = None) -> list[bool]:
    """Which pairs correlate worse than their neighbours in the stack; NaN counts as low."""
    s = settings or SuspectSettings()
    values = np.array(medians, float)
    out = []
    for k, value in enumerate(values):
        near = values[max(0, k - s.window) : k + s.window + 1]
        near = near[np.isfinite(near)]
        if math.isnan(value) or not len(near):
            out.append(True)
            continue
        # the upper half of the neighbours says what is normal: bad pairs come in twos and threes
        middle = float(np.percentile(near, 60))
        upper = near[near >= middle]
        spread = 1.4826 * float(np.median(np.abs(upper - middle)))
        out.append(bool(value < middle - max(s.drop * abs(middle), s.spreads * spread)))
    return out


def suspects(
    zs: Sequence[int],
    one: Sequence[float],
    two: Sequence[float],
    words: Mapping[int, Sequence[str]] | None = None,
    settings: SuspectSettings | None = None,
) -> list[Suspect]:
    """The sections at fault in a stack, from the correlations of neighbours.

    zs: the sections, in order (n).  one: median correlation of zs[k] with zs[k + 1] (n - 1).
    two: of zs[k] with zs[k + 2] (n - 2).  words: what quality control says of a section.

    A low pair alone is a step (the stack continues well on both sides). Two low pairs around a
    section whose neighbours agree: that section is at fault. Pairs that correlate less with
    their neighbour than with the one after it: wrong order.
    """
    words = words or {}
    low = low_pairs(one, settings)
    found: dict[int, Suspect] = {}

    def add(k: int, cause: str, value: float) -> None:
        said = [w for w in words.get(zs[k], ()) if w]
        text = f"{cause}; {', '.join(said)}" if said else cause
        value = value if math.isfinite(value) else math.nan
        found.setdefault(zs[k], Suspect(zs[k], text, round(value, 4)))

    def value(seq: Sequence[float], k: int) -> float:
        return float(seq[k]) if 0 <= k < len(seq) else math.nan

    explained = set()
    for k in range(1, len(zs) - 2):  # swapped: k and k+1; then k-1,k+1 and k,k+2 are neighbours
        across = min(value(two, k - 1), value(two, k))
        beside = max(value(one, k - 1), value(one, k + 1))
        if low[k - 1] and low[k + 1] and across > beside and across > 0:
            text = f"order: {zs[k]} and {zs[k + 1]} look swapped"
            for i in (k, k + 1):
                add(i, text, beside)
            explained |= {k - 1, k, k + 1}
    for k in range(1, len(zs) - 1):
        if low[k - 1] and low[k] and not {k - 1, k} & explained:
            over = value(two, k - 1)
            beside = float(np.nanmax([value(one, k - 1), value(one, k), -1.0]))
            if over > beside or math.isnan(value(one, k)) or math.isnan(value(one, k - 1)):
                worst = min(value(one, k - 1), value(one, k))
                add(k, "differs from both neighbours", worst)
                explained |= {k - 1, k}
    for k, bad in enumerate(low):
        if bad and k not in explained:
            if math.isnan(one[k]):
                cause = f"nothing to compare with section {zs[k]}"
            else:
                cause = f"step between sections {zs[k]} and {zs[k + 1]}"
            add(k + 1, cause, value(one, k))
    for k, z in enumerate(zs):
        if z not in found and words.get(z):
            pairs = [v for v in (value(one, k - 1), value(one, k)) if math.isfinite(v)]
            add(k, "quality", min(pairs) if pairs else math.nan)
    return [found[z] for z in zs if z in found]
