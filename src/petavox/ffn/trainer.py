"""The trainer: batches in, weights out; one step at a time.

    trainer = Trainer(spec, sources, settings)
    while trainer.step_number < 1000:
        figures = trainer.step()
    trainer.model()                       # ready to flood with

What it is: network, optimiser and feeders, one step of learning, and their whole state to save
and take up again. What it is not: when to save, validate or stop (petavox.learn.training_run).

Precision bf16 means autocast: convolutions multiply bfloat16; weights, map, loss, gradients of
weights and optimiser stay float32.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from petavox.errors import BadInput
from petavox.ffn import figures, objective
from petavox.ffn.examples import ExampleSettings, Sampler
from petavox.ffn.model import Model, ModelSpec, save_model
from petavox.ffn.network import ConvStack
from petavox.ffn.patches import Batch, Feeder, patch_shape
from petavox.ffn.pieces import Source
from petavox.ffn.trainer_settings import TrainerSettings
from petavox.learn import training_state
from petavox.learn.augment import check_symmetry
from petavox.learn.bf16 import autocast
from petavox.learn.distributed import Place, batch_of_rank, largest
from petavox.learn.divergence import require_numbers
from petavox.learn.schedule import (
    mean_decay_at,
    optimiser,
    rate_at,
    require_end,
)
from petavox.space import zyx

# what cannot change when a training is resumed: it would be another one
_FIXED = (
    "seed",
    "batch",
    "live",
    "tiles_per_device",
    *(f"examples.{k}" for k in ExampleSettings.model_fields if k != "memory_mb"),
    "walk",
    "augment",
    "optimiser.kind",
)


class Trainer:
    """A network that learns.

    spec: geometry of the model.  sources: annotated volumes.  start: weights to begin with
    (default: fresh ones).  feeders: batches of `settings.batch` that this rank makes in each step
    (2 on one rank is the same training as 1 on each of two).
    Raises BadInput if the settings do not fit the spec or the sources.
    """

    counts: tuple[str, ...] = figures.COUNTS

    def __init__(
        self,
        spec: ModelSpec,
        sources: Sequence[Source],
        settings: TrainerSettings,
        *,
        device: torch.device | str = "cpu",
        place: Place | None = None,
        start: ConvStack | None = None,
        feeders: int = 1,
    ) -> None:
        check_symmetry(settings.augment, spec.fov, spec.deltas)
        require_end(settings.optimiser, settings.steps)
        if settings.walk.moves == 0:
            raise BadInput("walk.moves is 0: the network would never learn to move; give 1.")
        self.spec, self.settings, self.place = spec, settings, place or Place()
        self.device = torch.device(device)
        # tiles of one card count as one device
        self.devices = max(1, self.place.ranks * feeders // settings.tiles_per_device)
        self.network = _network(spec, start, settings.seed).to(self.device)
        if settings.memory_format == "channels_last":
            self.network = self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._callable = self._wrapped()
        self.optimiser = optimiser(self.network.parameters(), settings.optimiser)
        self.mean: dict[str, Tensor] | None = None
        if settings.optimiser.mean_decay > 0:
            self.mean = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.feeder_numbers = [self.place.rank * feeders + i for i in range(feeders)]
        self.all_feeders = self.place.ranks * feeders
        patch = patch_shape(spec.fov, spec.deltas, settings.walk.moves)
        radius = zyx([f // 2 + d for f, d in zip(spec.fov, spec.deltas, strict=True)])
        self.feeders = [
            Feeder(
                Sampler(
                    sources,
                    patch=patch,
                    radius=radius,
                    context=settings.augment.context(),
                    settings=settings.examples,
                    seed=settings.seed,
                    feeder=number,
                    feeders=self.all_feeders,
                ),
                spec,
                settings.walk,
                settings.augment,
                batch=batch_of_rank(settings.batch, settings.tiles_per_device),
                live=settings.live,
                ahead=settings.ahead,
            )
            for number in self.feeder_numbers
        ]
        self.step_number = 0
        self.fovs = 0
        """Fields of view seen by all ranks."""

    def _wrapped(self) -> nn.Module:
        network: nn.Module = self.network
        if self.settings.compile:
            network = cast(nn.Module, torch.compile(network))
        if self.place.ranks > 1:
            ids = [self.device] if self.device.type != "cpu" else None
            # the last layer's 1x1x1 weights are the same in any memory order
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
            network = DistributedDataParallel(network, device_ids=ids)
        return network

    # -- one step --------------------------------------------------------------------------

    def step(self) -> Counter[str]:
        """Learn from one batch. Returns this rank's figures: loss, fovs, and of ended patches.

        Raises WorkFailed if the weights diverge.
        """
        settings = self.settings.optimiser
        rate = rate_at(self.step_number, self.settings.steps, settings, self.devices)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batches = [feeder.batch() for feeder in self.feeders]
        batch = Batch(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
        loss, logits = self.gradients(batch)
        objective.clip(self.network.parameters(), settings.clip)
        self.optimiser.step()
        require_numbers(self.network.parameters(), self.step_number + 1)
        if self.mean is not None:
            decay = mean_decay_at(self.step_number, settings.mean_decay)
            objective.update_mean(self.mean, self.network.state_dict(), decay)
        counted: Counter[str] = Counter()
        answers = np.split(logits, len(self.feeders))
        for feeder, answer in zip(self.feeders, answers, strict=True):
            counted += feeder.write(answer)
        self.step_number += 1
        self.fovs += len(logits) * self.place.ranks
        counted["steps"] = 1
        counted["fovs"] = len(logits)
        counted["loss"] = loss  # type: ignore[assignment]
        return counted

    def gradients(self, batch: Batch) -> tuple[float, np.ndarray]:
        """Forward and backward: fills the gradients; returns the loss and the corrected logits.

        With several ranks the gradients are their mean.
        """
        image, seed, target, known = (torch.from_numpy(a).to(self.device) for a in batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss, logits = objective.loss(seed, self.update(image, seed), target, known)
        loss.backward()
        return float(loss.detach()), logits.detach().cpu().numpy()

    def update(self, image: Tensor, seed: Tensor) -> Tensor:
        """The network alone at the precision of training; (n, z, y, x) each."""
        x = torch.stack([image, seed], 1)
        if self.settings.memory_format == "channels_last":
            x = x.contiguous(memory_format=torch.channels_last_3d)
        with autocast(self.device, self.settings.precision):
            return cast(Tensor, self._callable(x))[:, 0]

    def model(self) -> Model:
        """The network as it is now, or its running mean, to flood with. A copy."""
        network = ConvStack(self.spec.depth, self.spec.features, self.spec.norm)
        network.load_state_dict(self.network.state_dict() if self.mean is None else self.mean)
        return Model(self.spec, network.eval().requires_grad_(False))

    def annotated_voxels(self) -> int:
        """Voxels that examples may be drawn from (an estimate for volumes not held whole)."""
        return self.feeders[0].sampler.annotated_voxels()

    @property
    def fovs_a_step(self) -> int:
        """Fields of view that all ranks see in a step."""
        return sum(f.batch_size for f in self.feeders) * self.place.ranks

    def shown(self, sums: dict[str, float]) -> dict[str, float]:
        """What is said of summed figures."""
        return figures.shown(sums)

    def export(self, path: Path, provenance: dict[str, Any]) -> None:
        """Write the network as it is now as a model file."""
        spec = self.spec.model_copy(update={"provenance": provenance})
        save_model(path, spec, self.model().network.state_dict())

    def close(self) -> None:
        """End the threads that prepare examples."""
        for feeder in self.feeders:
            feeder.close()

    # -- state -----------------------------------------------------------------------------

    def save(self, root: Path, facts: dict[str, Any] | None = None, keep: int = 2) -> Path | None:
        """Write a checkpoint; all ranks call this together. The leading rank returns its folder."""
        partial = training_state.partial_of(root, self.step_number)
        partial.mkdir(parents=True, exist_ok=True)
        for number, feeder in zip(self.feeder_numbers, self.feeders, strict=True):
            training_state.write_feeder(partial, number, feeder.state())
        # the next that no feeder of any rank has drawn
        examples = largest(max(f.next_example for f in self.feeders), self.place, self.device)
        if self.place.leads:
            tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
            if self.mean is not None:
                tensors |= {f"mean.{k}": v for k, v in self.mean.items()}
            tensors |= training_state.optimiser_tensors(self.optimiser)
            training_state.write_state(
                partial,
                tensors,
                {
                    "step": self.step_number,
                    "fovs": self.fovs,
                    "feeders": self.all_feeders,
                    "examples": examples,
                    "spec": self.spec.model_dump(mode="json"),
                    "settings": self.settings.model_dump(mode="json"),
                    **(facts or {}),
                },
            )
        return training_state.publish_together(
            root, self.step_number, keep, leads=self.place.leads, ranks=self.place.ranks
        )

    def restore(self, folder: Path) -> dict[str, Any]:
        """Take up a checkpoint; returns its facts.

        With as many feeders as before the training goes on exactly. With more or fewer ranks the
        weights and the optimiser go on, and live patches start anew with examples not seen yet.
        """
        tensors, facts = training_state.read_state(folder)
        then_spec = training_state.spec_in(facts, ModelSpec, folder)
        training_state.require_same_network(then_spec, self.spec, folder)
        now, then = self.settings.model_dump(mode="json"), facts["settings"]
        training_state.require_unchanged(now, then, _FIXED, folder)
        self.network.load_state_dict(training_state.part(tensors, "network."))
        if self.mean is not None:
            mean = training_state.part(tensors, "mean.") or training_state.part(tensors, "network.")
            self.mean = {k: v.to(self.device) for k, v in mean.items()}
        training_state.restore_optimiser(self.optimiser, tensors)
        self.step_number, self.fovs = facts["step"], facts["fovs"]
        same = facts["feeders"] == self.all_feeders
        for number, feeder in zip(self.feeder_numbers, self.feeders, strict=True):
            if same:
                feeder.restore(training_state.read_feeder(folder, number))
            else:
                feeder.next_example = facts["examples"]
        return facts


def _network(spec: ModelSpec, start: ConvStack | None, seed: int) -> ConvStack:
    network = objective.initialised(ConvStack(spec.depth, spec.features, spec.norm), seed)
    if start is not None:
        mine = (spec.depth, spec.features, spec.norm)
        theirs = (start.depth, start.features, start.norm)
        if mine != theirs:
            raise BadInput(
                f"the model to start from has depth, features, norm {theirs}, the settings {mine}; "
                "leave `model` out of the settings to take the model's own."
            )
        network.load_state_dict(start.state_dict())
    return network
