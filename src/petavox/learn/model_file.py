"""Model files: weights with all that must be known to use them, in one safetensors file.

What it is: writing and reading of a file whose header holds a format's name and a spec (settings of
pydantic) as JSON, for any network. No pickle is ever loaded.
What it is not: a spec, or a network: each kind of model brings its own (petavox.ffn.model,
petavox.synapse.model).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from petavox.errors import BadInput
from petavox.provenance import file_digest, write_atomically
from petavox.settings import Settings, sentence

log = logging.getLogger("petavox")

S = TypeVar("S", bound=Settings)
N = TypeVar("N", bound=nn.Module)


def provenance_of(path: str | Path) -> dict[str, Any]:
    """What a model file of any kind says of its making. Raises BadInput if it is damaged."""
    try:
        with safe_open(str(path), framework="pt", device="cpu") as f:
            header = f.metadata() or {}
        return dict(json.loads(header["spec"])["provenance"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as e:
        raise BadInput(f"{path} is not a whole petavox model ({e}).") from None


def provenance_left(path: Path) -> dict[str, Any]:
    """What the best model of a training that goes on says of its making; {} if there is none.

    A damaged one, which is told, is as none: the checkpoint is whole, and the next validation
    writes another.
    """
    try:
        return provenance_of(path) if path.is_file() else {}
    except BadInput as e:
        log.warning("%s The best model is chosen anew.", e)
        return {}


@dataclass(frozen=True)
class ModelFormat(Generic[S, N]):
    """One kind of model file.

    name: stands in the header.  spec: its settings.  network: a fresh network of a spec.
    what: what the user calls such a model.  fix: how to get one, the end of the sentence about a
    file that is none.
    """

    name: str
    spec: type[S]
    network: Callable[[S], N]
    what: str
    fix: str

    def write(self, path: str | Path, spec: S, weights: Mapping[str, Tensor]) -> None:
        """Write a model file, atomically."""
        header = {"format": self.name, "spec": spec.model_dump_json()}
        tensors = {k: v.detach().to("cpu", torch.float32).contiguous() for k, v in weights.items()}
        try:
            write_atomically(path, save(tensors, metadata=header))
        except OSError as e:
            raise BadInput(f"cannot write the model {path}: {e.strerror}.") from None

    def read_spec(self, path: str | Path) -> S:
        """The spec of a model file, without its weights."""
        with self._opened(path) as f:
            return self._spec(f.metadata() or {}, path)

    def read(self, path: str | Path) -> tuple[S, N, str]:
        """Spec, network ready to be used, and the digest of the file.

        Raises BadInput if the file is no such model, is truncated, or its weights do not fit the
        network that its spec describes.
        """
        with self._opened(path) as f:
            spec = self._spec(f.metadata() or {}, path)
            weights = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (not a dict)
        network = self.network(spec)
        expected = network.state_dict()
        for name, tensor in expected.items():
            if name not in weights:
                raise BadInput(f"model {path} lacks the weights '{name}' that its spec asks for.")
            if weights[name].shape != tensor.shape:
                raise BadInput(
                    f"model {path}: weights '{name}' have shape {tuple(weights[name].shape)}, its "
                    f"spec asks for {tuple(tensor.shape)}; the file is damaged, export it again."
                )
            if not torch.isfinite(weights[name]).all():
                raise BadInput(f"model {path}: weights '{name}' hold NaN or infinity.")
        surplus = sorted(set(weights) - set(expected))
        if surplus:
            raise BadInput(f"model {path} holds weights its spec has no place for: {surplus[:3]}.")
        network.load_state_dict(weights)
        return spec, network.eval().requires_grad_(False), file_digest(path)

    def _opened(self, path: str | Path) -> Any:
        if not Path(path).is_file():
            raise BadInput(f"there is no model file {path}.")
        try:
            return safe_open(str(path), framework="pt", device="cpu")
        except (SafetensorError, OSError) as e:
            raise BadInput(f"{path} is not a whole petavox model ({e}); {self.fix}.") from None

    def _spec(self, header: Mapping[str, str], path: str | Path) -> S:
        if header.get("format") != self.name:
            raise BadInput(
                f"{path} is a safetensors file but no petavox model of {self.what} (format "
                f"{header.get('format')!r}, expected {self.name!r}); {self.fix}."
            )
        try:
            return self.spec.model_validate(json.loads(header["spec"]))
        except (KeyError, ValueError) as e:
            said = sentence(e, str(path), self.spec) if isinstance(e, ValidationError) else str(e)
            raise BadInput(f"the header of model {path} is not valid: {said}") from None
