"""The fine texture of a section without its outlines: a second channel for matching.

What it is: what is left when dark outlines (membranes, organelles) are cut out and the rest is
levelled and clipped. Outlines dominate a correlation, and they truly move from section to
section, which is the largest error of a shift between neighbours; the fine grain of cytoplasm
moves less. Matching sums both channels, each weighed by its own coherence
(petavox.align.correlate.coherent): where the texture does not persist from section to section it
gets no weight. What it is not: a contrast stage; these images are never shown.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from petavox.align import warp


def texture(
    image: np.ndarray,
    valid: np.ndarray,
    *,
    level_px: float = 6.0,
    depth: float = 0.5,
    rim_px: int = 2,
    device: str = "cpu",
) -> np.ndarray:
    """The texture of a section, int8 (h, w); 0 where outlines or nothing are.

    image, valid: (h, w), best at two to four pixels per width of a membrane.  level_px: what is
    wider is taken off.  depth: how much darker than around it an outline is, in local standard
    deviations.  rim_px: also cut around outlines.
    """
    ok = torch.as_tensor(np.ascontiguousarray(valid), device=device)
    values = torch.as_tensor(np.ascontiguousarray(image), device=device).float()
    if not bool(ok.any()):
        return np.zeros(image.shape, np.int8)
    values = torch.where(ok, values, values[ok].mean())
    soft = warp.blur(values, 0.7)
    mean = warp.wide_blur(soft, 1.5 * level_px)
    spread = torch.sqrt(warp.wide_blur((soft - mean).square(), 1.5 * level_px))[ok].median()
    dark = (soft <= mean - depth * spread) | ~ok
    side = 2 * rim_px + 1
    grown = F.max_pool2d(dark.float()[None, None], side, stride=1, padding=rim_px)[0, 0]
    keep = 1 - grown
    level = warp.wide_blur(values * keep, level_px)
    level = level / warp.wide_blur(keep, level_px).clamp_min(0.02)
    rest = (values - level) * keep
    inside = rest[keep > 0]
    if not len(inside):
        return np.zeros(image.shape, np.int8)
    most = float(2.2 * inside.abs().median().clamp_min(1e-6))
    out = (rest / most).clamp(-1, 1) * 127
    return np.asarray(out.round().to(torch.int8).cpu().numpy())
