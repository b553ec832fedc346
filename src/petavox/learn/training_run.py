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
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import distributed as dist

from petavox.errors import BadInput
from petavox.learn import training_state
from petavox.learn.curve import Curve
from petavox.learn.learner import Learner, Validate
from petavox.learn.model_file import provenance_left
from petavox.progress import Progress
from petavox.settings import Settings

log = logging.getLogger("petavox")

_MEET = 16  # steps between two decisions that all ranks take together


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
    silence_minutes: float = Field(30.0, gt=0)
    """With several ranks: one that is silent for so long is given up. More than a validation takes,
    in which all wait for the leading rank."""
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
    provenance: for the model files; a resumed run is held to its volumes and `started_from`.
    """
    if trainer.settings.steps is None and trainer.settings.minutes is None:
        raise BadInput("give `steps` or `minutes`: the training would never end.")
    # as it is after being written and read, so that it can be compared
    plain = json.loads(json.dumps(provenance or {}, default=str))
    running = _Run(trainer, out, settings, validate, plain, quiet)
    try:
        return running.go(resume)
    finally:
        trainer.close()
        if running.curve is not None:
            running.curve.close()


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
        self.saved_step: int | None = None
        self.figures: dict[str, Any] = {}
        self.curve = Curve(out, tensorboard=settings.tensorboard) if self.leads else None

    def go(self, resume: bool) -> dict[str, Any]:
        """See `run`."""
        trainer = self.trainer
        if resume:
            self._resume()
        if self.curve is not None:
            self.curve.begin_at(trainer.step_number)
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
            if since["steps"]:  # the minutes ended between two lines
                self._say(self._joint(since), annotated, progress)
        self._save()
        if self.last_validation < self.trained:  # on all ranks or on none
            self._validate()
        if self.leads:
            self._export("last.safetensors", {})
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
        return bool(self._told(int(mine)))

    def _told(self, number: int) -> int:
        """The leading rank's number, on all ranks."""
        if self.trainer.place.ranks == 1:
            return number
        answer = torch.tensor([number], device=self.trainer.device)
        dist.broadcast(answer, 0)
        return int(answer.item())

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
        self._write({"fovs": self.trainer.fovs, "minutes": self.trained / 60, **facts})

    def _write(self, facts: dict[str, float]) -> None:
        if self.curve is not None:
            self.curve.write(self.trainer.step_number, facts)

    def _save(self) -> None:
        if self.trainer.step_number == self.saved_step:
            return
        facts = {
            "trained_s": self.trained,
            "validated_s": self.last_validation,
            "volumes": self._asked("volumes"),
            "started_from": self.provenance.get("started_from"),
        }
        self.trainer.save(self.out / "checkpoints", facts, self.settings.keep)
        self.saved_step = self.trainer.step_number

    def _asked(self, key: str) -> Any:
        return self.provenance.get("settings", {}).get(key)

    def _resume(self) -> None:
        root = self.out / "checkpoints"
        # the leading rank chooses: another may see the folders of a shared disk later
        found = training_state.newest(root) if self.leads else None
        step = self._told(-1 if found is None else training_state.step_of(found))
        if step < 0:
            raise BadInput(f"there is no checkpoint in {self.out}; start without --resume.")
        late = 0.0 if self.leads else training_state.LATE_S
        folder = training_state.seen(root, late, step) or training_state.folder_of(root, step)
        facts = self.trainer.restore(folder)
        self._require_same(facts, folder)
        self.trained, self.last_validation = facts["trained_s"], facts["validated_s"]
        self.saved_step = step
        if self.leads:
            self.best = self._best_before()
            log.info("resumed at step %d of %s", self.trainer.step_number, folder)
            if facts["feeders"] != self.trainer.all_feeders:
                log.warning(
                    "the checkpoint is of %d feeders, this run has %d: live patches start anew",
                    facts["feeders"],
                    self.trainer.all_feeders,
                )

    def _require_same(self, facts: dict[str, Any], folder: Path) -> None:
        """Raise BadInput if the run was started with other volumes or another model."""
        if facts.get("volumes", self._asked("volumes")) != self._asked("volumes"):
            raise BadInput(
                f"`volumes` are not those that checkpoint {folder} was made with: resume with "
                "them, or learn from others by --init MODEL in another --out."
            )
        now = self.provenance.get("started_from")
        then = facts.get("started_from", now)
        if now is None:
            # not given again: it was needed for the first step only
            self.provenance |= {} if then is None else {"started_from": then}
        elif then is None or then["digest"] != now["digest"]:
            raise BadInput(
                f"--init is not the model that checkpoint {folder} was started from: resume "
                "without --init or with that model, or start anew in another --out."
            )

    def _best_before(self) -> float:
        """The error of OUT/best.safetensors, which may have been written after the checkpoint."""
        kept = provenance_left(self.out / "best.safetensors")
        error = kept.get("validation", {}).get("error", math.inf)
        asked = kept.get("settings", {}).get("validation")
        if error < math.inf and asked != self._asked("validation"):
            log.warning("`validation` is another than before: the best model is chosen anew")
            return math.inf
        return float(error)

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
