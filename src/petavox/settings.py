"""Settings: pydantic models with errors a biologist can act on.

What it is: the base class of every stage's settings, and the one way to read them from YAML.
What it is not: a registry, or a place for defaults; those stand in the models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from petavox.errors import BadInput
from petavox.space import Box, VoxelSize, zyx


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _zyx(value: Any) -> tuple[int, int, int]:
    try:
        return zyx(value)
    except (BadInput, TypeError, ValueError) as e:
        raise ValueError(f"{e} Give three whole numbers in the order z y x.") from None


def _nm(value: Any) -> tuple[float, float, float]:
    try:
        return tuple(VoxelSize.of(value))  # type: ignore[return-value]
    except (BadInput, TypeError, ValueError) as e:
        raise ValueError(str(e)) from None


def _box(value: Any) -> Box:
    try:
        return value if isinstance(value, Box) else Box.parse(str(value))
    except BadInput as e:
        raise ValueError(str(e)) from None


ZyxSetting = Annotated[tuple[int, int, int], BeforeValidator(_zyx)]
"""Three integers, zyx; one integer stands for all three."""
NmSetting = Annotated[tuple[float, float, float], BeforeValidator(_nm)]
"""Three lengths in nm, zyx."""
BoxSetting = Annotated[Box, BeforeValidator(_box), PlainSerializer(str, return_type=str)]
"""A box, written z0:z1,y0:y1,x0:x1."""

S = TypeVar("S", bound=Settings)


def parse(model: type[S], values: Any, where: str) -> S:
    """Settings from plain values; `where` names the file or option in errors."""
    try:
        return model.model_validate(values)
    except ValidationError as e:
        raise BadInput(sentence(e, where, model)) from None


def read_yaml(path: str | Path, model: type[S]) -> S:
    """Settings from a YAML file. Raises BadInput for an unreadable file or a wrong value."""
    return parse(model, read_yaml_mapping(path), str(path))


def read_yaml_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping a YAML file holds (safe loader; no tags, no code)."""
    try:
        text = Path(path).read_text()
    except OSError as e:
        raise BadInput(f"cannot read the settings {path}: {e.strerror}.") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise BadInput(f"{path} is not valid YAML: {' '.join(str(e).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadInput(f"{path} holds a {type(values).__name__}, not `key: value` lines.")
    return values


def sentence(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """All that is wrong with some settings, as sentences that name key, value and fix."""
    parts = []
    for e in error.errors():
        key = ".".join(str(p) for p in e["loc"]) or "(top)"
        if e["type"] == "extra_forbidden":
            known = ", ".join(sorted(_fields_at(model, e["loc"])))
            parts.append(f"unknown key '{key}' in {where}. Known keys here: {known}.")
        elif e["type"] == "missing":
            parts.append(f"key '{key}' is missing in {where}; it has no default.")
        else:
            message = e["msg"].removeprefix("Value error, ").rstrip(".")
            parts.append(f"{key} in {where} is {e['input']!r}: {message}.")
    return " ".join(parts)


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    here: Any = model
    for part in loc[:-1]:
        field = getattr(here, "model_fields", {}).get(part)
        here = field.annotation if field is not None else here
    return list(getattr(here, "model_fields", model.model_fields))
