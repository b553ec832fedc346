"""Divergence: a training whose weights are no numbers any more ends, and says so.

What it is: one check after each step. Ranks average their gradients, so that their weights are the
same and all of them end in the same step. What it is not: a cure.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from petavox.errors import WorkFailed


def require_numbers(parameters: Iterable[nn.Parameter], step: int) -> None:
    """Raise WorkFailed if a weight is NaN or infinite after `step` steps."""
    weights = [p.detach() for p in parameters]
    # one figure for all of them: the sum of squares is no number if any weight is none
    if not torch.isfinite(nn.utils.get_total_norm(weights)):
        raise WorkFailed(
            f"the training diverged: after step {step} the weights are no numbers any more. Lower "
            "trainer.optimiser.rate, and check that image_mean and image_std are those of the raw "
            "image; then go on from the last checkpoint with --resume."
        )
