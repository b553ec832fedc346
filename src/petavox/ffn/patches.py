"""Patches: examples being flooded by the network that learns.

What it is: one patch with its live map, its target and its walk; and the feeder, which keeps
several times more live patches than the batch and makes batches of them in turn.
What it is not: the network or the loss. Nothing here is differentiated: each step's logits are
written into the map and become the input of the patch's next step.

      live patches  0 1 | 2 3 | 4 5 | 6 7      batch 2, live 4
      step          0     1     2     3        step 4 comes back to 0 1: between two steps in one
                    4 ...                      patch the weights have changed four times
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from petavox.ffn.examples import Sampler
from petavox.ffn.model import ModelSpec, logit
from petavox.ffn.walks import Walk, WalkSettings, lattice
from petavox.learn.augment import AugmentSettings, augmented
from petavox.learn.sample import Sample
from petavox.space import Zyx, zyx

PATIENCE_S = 2.0
"""How long the end waits for an example that is being prepared."""
INSIDE, OUTSIDE = 0.95, 0.05
"""Target probabilities of the object and of all else: never quite certain."""


class Batch(NamedTuple):
    """Fields of view, (n, z, y, x) float32 each.

    image: normalised.  seed: the map in logits.  target: probabilities.  known: 1 where the loss
    counts, 0 where it does not.
    """

    image: np.ndarray
    seed: np.ndarray
    target: np.ndarray
    known: np.ndarray


def patch_shape(fov: Zyx, deltas: Zyx, steps: int) -> Zyx:
    """fov + 2 deltas steps"""
    return zyx([f + 2 * d * steps for f, d in zip(fov, deltas, strict=True)])


class Patch:
    """One example with its live map.

    image: (z, y, x) float32, normalised.  inside: bool, the object at the centre.  known: bool.
    """

    def __init__(
        self, image: np.ndarray, inside: np.ndarray, known: np.ndarray, spec: ModelSpec, walk: Walk
    ) -> None:
        self.image, self.inside, self.known, self.walk, self.fov = (
            image, inside, known, walk, spec.fov,
        )  # fmt: skip
        self.canvas = np.full(image.shape, logit(spec.seed_pad), np.float32)
        self.canvas[tuple(n // 2 for n in image.shape)] = logit(spec.seed_init)

    def view(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """image, seed, target and known of the field of view where the walk stands."""
        here = self._here()
        target = np.where(self.inside[here], np.float32(INSIDE), np.float32(OUTSIDE))
        return self.image[here], self.canvas[here], target, self.known[here].astype(np.float32)

    def write(self, logits: np.ndarray) -> None:
        """Put the network's answer into the map and walk on. logits: (z, y, x) float32."""
        self.canvas[self._here()] = logits
        self.walk.stepped(self.canvas)

    @property
    def over(self) -> bool:
        """True if the walk has ended."""
        return self.walk.offset is None

    def _here(self) -> tuple[slice, slice, slice]:
        assert self.walk.offset is not None
        z, y, x = (
            slice(n // 2 + o - f // 2, n // 2 + o + f // 2 + 1)
            for n, o, f in zip(self.image.shape, self.walk.offset, self.fov, strict=True)
        )
        return z, y, x

    def figures(self, threshold: float) -> Counter[str]:
        """How the patch went: voxels right and wrong at the move threshold, and moves.

        A move of the first ring is due if its place is in the object, and made if the map there
        reaches `threshold` (a logit).
        """
        out: Counter[str] = Counter()
        said = self.canvas >= threshold
        for name, where in (
            ("voxels_right", said & self.inside),
            ("voxels_spurious", said & ~self.inside),
            ("voxels_missed", ~said & self.inside),
        ):
            out[name] = int(np.count_nonzero(where & self.known))
        rings = lattice(self.walk.deltas, min(1, self.walk.settings.moves))
        for offset in rings[0] if rings else []:
            at = tuple(n // 2 + o for n, o in zip(self.image.shape, offset, strict=True))
            if self.known[at]:
                due, made = bool(self.inside[at]), bool(said[at])
                if due or made:
                    out[{(1, 1): "moves_right", (1, 0): "moves_missed"}.get(
                        (due, made), "moves_spurious")] += 1  # fmt: skip
        out["patches"] = 1
        return out


class Feeder:
    """Live patches of one sampler, and the batches made of them.

    batch: fields of view in a batch.  live: live patches for each place in the batch.
    ahead: examples prepared by a thread before they are needed; 0 prepares them when needed.
    The batches are the same for any `ahead`.
    """

    def __init__(
        self,
        sampler: Sampler,
        spec: ModelSpec,
        walk: WalkSettings,
        augment: AugmentSettings,
        *,
        batch: int,
        live: int,
        ahead: int = 0,
    ) -> None:
        self.sampler, self.spec, self.walk, self.augment = sampler, spec, walk, augment
        self.batch_size, self.live = batch, live
        self.threshold = logit(spec.move_threshold)
        self.next_example = 0
        self.turn = 0
        self.patches: list[Patch] = []
        self._ahead, self._line = ahead, None if ahead == 0 else _Line(self, ahead)

    def batch(self) -> Batch:
        """The fields of view of the next `batch_size` patches."""
        while len(self.patches) < self.batch_size * self.live:
            self.patches.append(self._next())
        parts = zip(*(p.view() for p in self._due()), strict=True)
        image, seed, target, known = (np.stack(part) for part in parts)
        return Batch(image, seed, target, known)

    def write(self, logits: np.ndarray) -> Counter[str]:
        """Write the answer to the last batch; patches that are over make room for new ones.

        logits: (batch, z, y, x) float32. Returns the figures of the patches that are over.
        """
        figures: Counter[str] = Counter()
        first = self.turn * self.batch_size
        for i, (patch, answer) in enumerate(zip(self._due(), logits, strict=True)):
            patch.write(answer)
            if patch.over:
                figures += patch.figures(self.threshold)
                self.patches[first + i] = self._next()
        self.turn = (self.turn + 1) % self.live
        return figures

    def close(self) -> None:
        """End the thread that prepares examples."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def prepared(self, number: int) -> Patch:
        """Example `number`, augmented and normalised, as a fresh patch."""
        example = self.sampler.example(number)
        rng = np.random.default_rng([self.sampler.seed, 3, self.sampler.feeder, number])
        most = float(np.iinfo(example.image.dtype).max) if example.image.dtype.kind == "u" else 1.0
        sample = Sample(
            example.image.astype(np.float32) / np.float32(most), example.labels, example.known
        )
        centre = tuple(n // 2 for n in example.labels.shape)
        label = example.labels[centre]
        sample = augmented(sample, self.augment, self.sampler.patch, rng)
        mean, std = np.float32(self.spec.image_mean), np.float32(self.spec.image_std)
        walk = Walk(self.walk, self.spec.fov, self.spec.deltas, self.threshold, rng)
        image = (sample.image * np.float32(most) - mean) / std
        return Patch(image, sample.labels == label, sample.known, self.spec, walk)

    def _next(self) -> Patch:
        number = self.next_example
        self.next_example += 1
        return self.prepared(number) if self._line is None else self._line.take(number)

    def _due(self) -> list[Patch]:
        first = self.turn * self.batch_size
        return self.patches[first : first + self.batch_size]

    # -- state -----------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """All that is needed to go on exactly, as arrays."""
        arrays = {"counters": np.array([self.next_example, self.turn, len(self.patches)])}
        if self.patches:
            for name in ("image", "inside", "known", "canvas"):
                arrays[name] = np.stack([getattr(p, name) for p in self.patches])
        for i, patch in enumerate(self.patches):
            arrays[f"walk.{i}"] = patch.walk.state()
        return arrays

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take up a saved state."""
        self.close()
        self.next_example, self.turn, count = (int(n) for n in arrays["counters"])
        self.patches = []
        for i in range(count):
            walk = Walk(self.walk, self.spec.fov, self.spec.deltas, self.threshold)
            walk.restore(arrays[f"walk.{i}"])
            patch = Patch(
                arrays["image"][i], arrays["inside"][i], arrays["known"][i], self.spec, walk
            )
            patch.canvas = arrays["canvas"][i].copy()
            self.patches.append(patch)
        if self._ahead:
            self._line = _Line(self, self._ahead)


class _Line:
    """A thread that prepares examples in order, a few ahead of the trainer."""

    def __init__(self, feeder: Feeder, ahead: int) -> None:
        self._ready: queue.Queue[Patch | BaseException] = queue.Queue(ahead)
        self._feeder, self._stop = feeder, threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, number: int) -> Patch:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(number,), daemon=True)
            self._thread.start()
        found = self._ready.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def _work(self, number: int) -> None:
        while not self._stop.is_set():
            made: Patch | BaseException
            try:
                made = self._feeder.prepared(number)
            except BaseException as e:  # handed to the trainer, who waits for it
                made = e
            while not self._stop.is_set():
                try:
                    self._ready.put(made, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if isinstance(made, BaseException):
                return
            number += 1

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            # no longer: it may read from a disk that no longer answers, and as a daemon it does
            # not keep the process; what it makes is thrown away
            self._thread.join(PATIENCE_S)
