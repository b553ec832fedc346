"""A task of blocks: one function, its settings, and the grid it is called on.

    def brighten(block: Block, context: Context) -> Counters:
        image = pv.open(context.reads["image"]).read(block.read)
        ...
        return {"voxels": image.size}

    task = BlockTask("brighten", "my.module:brighten", grid, settings={"by": 3},
                     reads={"image": "in.zarr"}, writes={"image": "out.zarr"})

What it is: plain values that travel to a worker as JSON: a function's dotted name, settings and
paths; never a pickled object of the user's. What it is not: the running of it.

A block function must be idempotent (run twice, it writes the same bytes) and must write only
what its own `block.write` owns: whole shards of its outputs.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from petavox.errors import BadInput
from petavox.settings import Settings, parse
from petavox.space import Block, Box, Grid

Counters = Mapping[str, "int | float | str"]
"""What a block function returns: names and plain values, summed or listed in the ledger."""

BlockFunction = Callable[[Block, "Context"], "Counters | None"]
S = TypeVar("S", bound=Settings)


def _untold(_share: float, _words: str) -> None:
    """Where nobody listens."""


@dataclass(frozen=True)
class Context:
    """What a block function gets besides its block.

    settings: plain values; `parsed(Model)` gives them as a settings model.
    reads, writes: name -> path or URL.  scratch: a node-local folder, or None.
    device: the accelerator this worker is pinned to ("cpu", "cuda", "xpu"): always the first one
    that the process can see.
    attempt: 1 on the first try.
    tell: says how far the block is (share 0..1, a few words); shown while the run goes on.
    """

    settings: Mapping[str, Any]
    reads: Mapping[str, str]
    writes: Mapping[str, str]
    scratch: Path | None = None
    device: str = "cpu"
    attempt: int = 1
    tell: Callable[[float, str], None] = _untold

    def parsed(self, model: type[S]) -> S:
        """The settings as a model; parsed once per process."""
        return _parsed(model, json.dumps(self.settings, sort_keys=True))


@functools.lru_cache(maxsize=32)
def _parsed(model: type[Any], text: str) -> Any:
    return parse(model, json.loads(text), "the settings of the task")


@dataclass(frozen=True)
class Costs:
    """What one block needs, known before anything runs.

    memory_bytes: peak of one worker.  write_bytes, files: upper bounds of one block's output.
    """

    memory_bytes: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    files: int = 0


@dataclass(frozen=True)
class BlockTask:
    """A function and the grid it is called on; every part is plain values.

    name: names the task in the ledger.  function: "package.module:function".
    inputs: name -> digest of what the task reads beyond `reads`, such as a model's.
    code: modules whose source decides the result; the function's own module always counts.
    costs: what one block needs at most.  smaller: what would need less memory, in words.
    """

    name: str
    function: str
    grid: Grid
    settings: Mapping[str, Any] = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)
    writes: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    costs: Costs = Costs()
    smaller: str = "smaller blocks"

    def __post_init__(self) -> None:
        try:
            json.dumps(self.settings)
        except TypeError as e:
            raise BadInput(f"settings of task '{self.name}' are not plain values: {e}.") from None
        if len(self.grid) == 0:
            raise BadInput(f"task '{self.name}' has no blocks: its box {self.grid.total} is empty.")

    def job(self) -> dict[str, Any]:
        """The part of a message to a worker that is the same for all blocks."""
        g = self.grid
        return {
            "name": self.name,
            "function": self.function,
            "grid": [list(g.total.start), list(g.total.stop), list(g.block), list(g.context)],
            "settings": dict(self.settings),
            "reads": dict(self.reads),
            "writes": dict(self.writes),
        }

    def parts(self) -> dict[str, Any]:
        """What decides the result, by name; compared one by one when a run is resumed."""
        import petavox

        job = self.job()
        parts = {
            "petavox": petavox.__version__,
            "function": self.function,
            "grid": job["grid"],
            # by name only: a project that was moved keeps its finished blocks
            "writes": {k: Path(v).name for k, v in self.writes.items()},
        }
        parts |= {f"settings.{k}": v for k, v in self.settings.items()}
        parts |= {f"input {k}": v for k, v in self.inputs.items()}
        parts |= {f"reads {k}": v for k, v in self.reads.items() if k not in self.inputs}
        modules = dict.fromkeys([self.function.partition(":")[0], *self.code])
        parts |= {f"code {m}": source_digest(m) for m in modules}
        return dict(json.loads(json.dumps(parts, sort_keys=True, default=str)))


def grid_of(job: Mapping[str, Any]) -> Grid:
    """The grid of a job message."""
    start, stop, block, context = job["grid"]
    return Grid(Box(tuple(start), tuple(stop)), tuple(block), tuple(context))


def resolve(function: str) -> BlockFunction:
    """The function at "package.module:function". Raises BadInput if there is none."""
    module, _, name = function.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as e:
        raise BadInput(
            f"block function '{function}' cannot be imported ({e}): give package.module:function."
        ) from e
    if not callable(found):
        raise BadInput(f"block function '{function}' is a {type(found).__name__}, not a function.")
    return found


@functools.lru_cache(maxsize=256)
def source_digest(module: str) -> str:
    """Digest of a module's source file, without importing it; "none" where there is no file."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return "none"
    return hashlib.blake2b(Path(spec.origin).read_bytes(), digest_size=16).hexdigest()
