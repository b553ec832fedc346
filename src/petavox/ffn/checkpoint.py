"""The state of a canvas as plain arrays, to save in mid-flood and go on from, exactly.

What it is: canvas -> arrays -> canvas, at any step of any object. What it is not: files; and not
the image, the model or the settings, which whoever resumes must give again, unchanged.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, deque
from typing import Any

import numpy as np

from petavox.ffn.canvas import Canvas
from petavox.ffn.growth import Growth, Origin
from petavox.space import Zyx, zyx


def state_of(canvas: Canvas) -> dict[str, np.ndarray]:
    """Everything that changes while a canvas is flooded. Arrays only; no pickle needed."""
    facts: dict[str, Any] = {
        "next_id": canvas.next_id,
        "next_seed": canvas.next_seed,
        "counters": dict(canvas.counters),
        "origins": {str(i): dataclasses.asdict(o) for i, o in canvas.origins.items()},
        "growth": None,
    }
    arrays: dict[str, np.ndarray] = {"segmentation": canvas.segmentation}
    if canvas.leaked is not None:
        arrays["leaked"] = np.packbits(canvas.leaked)
    if canvas.probability is not None:
        arrays["probability"] = canvas.probability
    growth = canvas.growth
    if growth is not None:
        simple = dataclasses.asdict(growth)
        del simple["queue"], simple["visited"]
        facts["growth"] = simple
        arrays["queue"] = _points(list(growth.queue))
        arrays["visited"] = _points(sorted(growth.visited))
        arrays["seed"] = canvas.seed[canvas.touched(growth).slices()]
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    return arrays


def restore(canvas: Canvas, arrays: dict[str, np.ndarray]) -> None:
    """Put a saved state into a fresh canvas of the same image, model and settings."""
    facts = json.loads(bytes(arrays["facts"]))
    canvas.segmentation[...] = arrays["segmentation"]
    canvas.next_id, canvas.next_seed = facts["next_id"], facts["next_seed"]
    canvas.counters = Counter(facts["counters"])
    canvas.origins = {int(i): origin_of(o) for i, o in facts["origins"].items()}
    if "leaked" in arrays:
        bits = np.unpackbits(arrays["leaked"], count=canvas.segmentation.size)
        canvas.leaked = bits.astype(bool).reshape(canvas.shape)
    if canvas.probability is not None:
        canvas.probability[...] = arrays["probability"]
    if facts["growth"] is not None:
        kept = facts["growth"]
        for name in ("start", "low", "high"):
            kept[name] = zyx(kept[name])
        growth = Growth(
            queue=deque(_tuples(arrays["queue"])), visited=set(_tuples(arrays["visited"])), **kept
        )
        canvas.growth = canvas.last = growth
        canvas.seed[canvas.touched(growth).slices()] = arrays["seed"]


def origin_of(values: dict[str, Any]) -> Origin:
    """An Origin from its JSON form."""
    overlaps = {int(i): int(n) for i, n in values["overlaps"].items()}
    return Origin(**(values | {"seed": zyx(values["seed"]), "overlaps": overlaps}))


def _points(points: list[Zyx]) -> np.ndarray:
    return np.array(points, np.int64).reshape(-1, 3)


def _tuples(points: np.ndarray) -> list[Zyx]:
    return [zyx(p) for p in points.tolist()]
