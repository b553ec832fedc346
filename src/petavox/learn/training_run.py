"""A training from its first step, or its last checkpoint, to its end.

What it is: the loop around a Learner: when to say how it goes, save, validate and stop.
What it is not: how a step is made (petavox.ffn.trainer, petavox.synapse.trainer), or how a model
is judged; a function is given that applies the model to a box and returns its error.

    OUT/checkpoints/step-NNNNNNNN/   the whole state, the newest two
    OUT/best.safetensors             the model with the lowest error of validation so far
    OUT/last.safetensors             the model at the end
    OUT/curve.jsonl                  figures, one line each
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import distributed as dist

from petavox.errors import BadInput, MissingExtra
from petavox.learn import training_state
from petavox.learn.distributed import Place
from petavox.progress import Progress
from petavox.provenance import write_atomically
from petavox.settings import Settings

log = logging.getLogger("petavox")

Validate = Callable[[Any], dict[str, float]]
"""Applies a model to a box and scores it; `error` is what is to be small."""

_MEET = 16  # steps between two decisions that all ranks take together


class Limited(Protocol):
    """Settings that say when a training ends: so many steps, or so many minutes."""

    steps: int | None
    minutes: float | None


class Learner(Protocol):
    """What a trainer must offer to be run: steps, figures, and its whole state."""

    place: Place
    device: torch.device
    counts: tuple[str, ...]
    """Names of the figures of a step, to be summed over steps and ranks."""
    step_number: int
    fovs: int
    """Fields of view seen by all ranks."""
    all_feeders: int

    @property
    def settings(self) -> Any:
        """Its settings: at least those of Limited."""

    @property
    def fovs_a_step(self) -> int:
        """Fields of view that all ranks see in a step."""

    def step(self) -> Counter[str]:
        """Learn from one batch; this rank's figures."""

    def shown(self, sums: dict[str, float]) -> dict[str, float]:
        """What is said of summed figures."""

    def annotated_voxels(self) -> int:
        """Voxels that examples may be drawn from."""

    def model(self) -> Any:
        """The network as it is now, to be validated."""

    def export(self, path: Path, provenance: dict[str, Any]) -> None:
        """Write the network as a model file."""

    def save(self, root: Path, facts: dict[str, Any] | None = None, keep: int = 2) -> Path | None:
        """Write a checkpoint."""

    def restore(self, folder: Path) -> dict[str, Any]:
        """Take up a checkpoint; its facts."""

    def close(self) -> None:
        """End its threads."""


class RunSettings(Settings):
    """When a training says how it goes, saves and validates."""

    say_every: int = Field(50, ge=1)
    """Steps between two lines of figures."""
    save_minutes: float = Field(5.0, gt=0)
    """Minutes between two checkpoints."""
    save_steps: int | None = Field(None, ge=1)
    """Steps between two checkpoints, beside those by time."""
    keep: int = Field(2, ge=1)
    """Checkpoints kept."""
    validate_minutes: float = Field(10.0, gt=0)
    """Minutes of training between two validations by segmentation."""
    tensorboard: bool = False
    """Write figures for TensorBoard into OUT/tensorboard too."""


def run(
    trainer: Learner,
    out: Path,
    settings: RunSettings,
    *,
    validate: Validate | None = None,
    resume: bool = False,
    provenance: dict[str, Any] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train until the steps or minutes of the trainer's settings are used up.

    validate: called on the leading rank; without it the last model is also the best.
    resume: go on from the newest checkpoint in `out`. Returns the final figures.
    """
    if trainer.settings.steps is None and trainer.settings.minutes is None:
        raise BadInput("give `steps` or `minutes`: the training would never end.")
    return _Run(trainer, out, settings, validate, provenance or {}, quiet).go(resume)


class _Run:
    def __init__(
        self,
        trainer: Learner,
        out: Path,
        settings: RunSettings,
        validate: Validate | None,
        provenance: dict[str, Any],
        quiet: bool,
    ) -> None:
        self.trainer, self.out, self.settings = trainer, out, settings
        self.validate, self.provenance = validate, provenance
        self.quiet = quiet or not trainer.place.leads
        self.leads = trainer.place.leads
        self.best, self.trained, self.last_validation = math.inf, 0.0, -1.0
        self.figures: dict[str, Any] = {}
        self.board: Any = None

    def go(self, resume: bool) -> dict[str, Any]:
        """See `run`."""
        trainer = self.trainer
        if resume:
            self._resume()
        if self.leads and self.settings.tensorboard:
            self.board = _board(self.out / "tensorboard")
        steps = trainer.settings.steps
        total = None if steps is None else steps * trainer.fovs_a_step
        annotated = trainer.annotated_voxels()
        since: Counter[str] = Counter()
        saved = self.trained
        with Progress("train", total=total, unit="FOV", quiet=self.quiet) as progress:
            progress.resume_at(trainer.fovs)
            while not self._over():
                began = time.perf_counter()
                since += trainer.step()
                self.trained += time.perf_counter() - began
                step = trainer.step_number
                if step % self.settings.say_every == 0 or self._at_end():
                    self._say(self._joint(since), annotated, progress)
                    since = Counter()
                # the leading rank's clock decides for all
                due = self._decide(self.trained - saved >= 60 * self.settings.save_minutes)
                if due or (self.settings.save_steps and step % self.settings.save_steps == 0):
                    self._save()
                    saved = self.trained
                since_validation = self.trained - self.last_validation
                if self._decide(since_validation >= 60 * self.settings.validate_minutes):
                    self._validate()
        self._save()
        if self.last_validation < self.trained:  # on all ranks or on none
            self._validate()
        if self.leads:
            self._export("last.safetensors", {})
        trainer.close()
        if self.board is not None:
            self.board.close()
        return {
            "steps": trainer.step_number,
            "fovs": trainer.fovs,
            "annotated_voxels": annotated,
            "minutes": self.trained / 60,
            "fov_per_s": trainer.fovs / self.trained if self.trained else math.nan,
            **self.figures,
            "best_error": self.best,
        }

    # -- when ------------------------------------------------------------------------------

    def _at_end(self) -> bool:
        steps = self.trainer.settings.steps
        return steps is not None and self.trainer.step_number >= steps

    def _over(self) -> bool:
        if self._at_end():
            return True
        minutes = self.trainer.settings.minutes
        return minutes is not None and self._decide(self.trained >= 60 * minutes)

    def _decide(self, mine: bool) -> bool:
        """The leading rank's answer, on all ranks; asked every few steps."""
        if self.trainer.place.ranks == 1:
            return mine
        if self.trainer.step_number % _MEET:
            return False
        answer = torch.tensor([int(mine)], device=self.trainer.device)
        dist.broadcast(answer, 0)
        return bool(answer.item())

    def _joint(self, figures: Counter[str]) -> dict[str, float]:
        """Figures summed over all ranks."""
        counts = self.trainer.counts
        values = torch.tensor([float(figures[k]) for k in counts], dtype=torch.float64)
        if self.trainer.place.ranks > 1:
            values = values.to(self.trainer.device, torch.float32)
            dist.all_reduce(values)
        return dict(zip(counts, values.tolist(), strict=True))

    # -- what ------------------------------------------------------------------------------

    def _say(self, sums: dict[str, float], annotated: int, progress: Progress) -> None:
        facts = self.trainer.shown(sums)
        self.figures |= facts
        share = self.trainer.fovs / max(annotated, 1)
        progress.to(self.trainer.fovs, of_annotated_voxels=share, **facts)
        if self.leads:
            self._write({"fovs": self.trainer.fovs, "minutes": self.trained / 60, **facts})

    def _save(self) -> None:
        facts = {"best": self.best, "trained_s": self.trained, "validated_s": self.last_validation}
        self.trainer.save(self.out / "checkpoints", facts, self.settings.keep)

    def _resume(self) -> None:
        folder = training_state.newest(self.out / "checkpoints")
        if folder is None:
            raise BadInput(f"there is no checkpoint in {self.out}; start without --resume.")
        facts = self.trainer.restore(folder)
        self.trained, self.last_validation = facts["trained_s"], facts["validated_s"]
        self.best = facts["best"]
        if self.leads:
            log.info("resumed at step %d of %s", self.trainer.step_number, folder)
            if facts["feeders"] != self.trainer.all_feeders:
                log.warning(
                    "the checkpoint is of %d feeders, this run has %d: live patches start anew",
                    facts["feeders"],
                    self.trainer.all_feeders,
                )
            self._forget_later()

    def _forget_later(self) -> None:
        """Drop the lines of steps that will be made again."""
        path = self.out / "curve.jsonl"
        if path.is_file():
            lines = [x for x in path.read_text().splitlines() if x.endswith("}")]
            kept = [x for x in lines if json.loads(x)["step"] <= self.trainer.step_number]
            write_atomically(path, "".join(f"{x}\n" for x in kept))

    def _validate(self) -> None:
        self.last_validation = self.trained
        if self.leads:
            if self.validate is None:
                self._export("best.safetensors", {})
            else:
                began = time.perf_counter()
                scores = self.validate(self.trainer.model())
                self._write({f"validation_{k}": v for k, v in scores.items()})
                self.figures |= {f"validation_{k}": v for k, v in scores.items()}
                log.info(
                    "validation at step %d: %s (%.0f s)",
                    self.trainer.step_number,
                    ", ".join(f"{k} {v:.4g}" for k, v in scores.items()),
                    time.perf_counter() - began,
                )
                if scores["error"] < self.best:
                    self.best = scores["error"]
                    self._export("best.safetensors", {"validation": scores})
        if self.trainer.place.ranks > 1:
            dist.barrier()

    def _export(self, name: str, facts: dict[str, Any]) -> None:
        trainer = self.trainer
        provenance = {
            **self.provenance, "steps": trainer.step_number, "fovs": trainer.fovs,
            "minutes": round(self.trained / 60, 2), **facts,
        }  # fmt: skip
        trainer.export(self.out / name, provenance)

    def _write(self, facts: dict[str, float]) -> None:
        step = self.trainer.step_number
        self.out.mkdir(parents=True, exist_ok=True)
        with open(self.out / "curve.jsonl", "a") as f:
            f.write(json.dumps({"step": step, **facts}) + "\n")
        if self.board is not None:
            for name, value in facts.items():
                self.board.add_scalar(name, value, step)


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra(
            "`tensorboard: true` needs TensorBoard: pip install 'petavox[tensorboard]'."
        ) from None
    return SummaryWriter(str(folder))
