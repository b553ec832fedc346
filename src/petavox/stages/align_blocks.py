"""The rounds of matching of `petavox align` as block tasks: kept, resumed, spread over workers.

What it is: a round (petavox.align.matching.Round) written down, a block function that does it for
a slab of sections, and the driver's side that runs the task and collects the matches. Each round
is a task of its own in the ledger, named by window and round, whose inputs are the volume's and
the round's digests: a run that was stopped does again only what was not finished, and a change of
settings or of an earlier result does again what follows from it.

    RUN/ledger.db            which slabs are done
    RUN/place.json           where the sections are, and how to work on them
    RUN/rounds/NAME.npz      what a round starts from
    RUN/matches/NAME/        matches, one npz per slab
    RUN/damage/DIGEST/       masks of sections (section_damage.py), by what decides them

What it is not: the science, or the solve, which the driver does between rounds.
"""

from __future__ import annotations

import functools
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from petavox import provenance
from petavox.align import frames, matching
from petavox.align.damage_view import DamageSettings
from petavox.align.matching import Round
from petavox.align.solve import Matches
from petavox.blocks import BlockTask, Context, Costs, Counters, Engine, Ledger
from petavox.blocks.runner import run as run_task
from petavox.blocks.task import source_digest
from petavox.settings import Settings
from petavox.space import Block, Box, Grid
from petavox.stages.memory import give_back
from petavox.stages.section_damage import SectionDamage
from petavox.stages.section_folder import Sections
from petavox.stages.stamps import volume_stamp
from petavox.stages.threads import one_torch_thread
from petavox.volume import opening

CODE = tuple(
    f"petavox.{m}"
    for m in (
        "align.matching", "align.match", "align.correlate", "align.texture", "align.warp",
        "align.frames", "align.damage", "align.damage_view", "align.lines", "align.reduced",
        "stages.section_folder", "stages.section_damage", "stages.section_reading",
    )
)  # fmt: skip

DAMAGE_CODE = tuple(
    f"petavox.{m}"
    for m in (
        "align.damage", "align.damage_view", "align.lines", "align.reduced",
        "stages.section_damage", "stages.section_reading",
    )
)  # fmt: skip
"""What decides the masks of damaged places."""


class Place(Settings):
    """Where sections come from, for any process, and how it works on them.

    content: digest of what the volume and the mask hold, so that others at the same paths are not
    taken for them.  damage: None where a mask is given or none is wanted.
    memory_mb, threads: of one process.  device: of a worker that is not pinned to one.
    """

    volume: str
    content: str
    mask: str | None = None
    damage: DamageSettings | None = None
    run: str
    memory_mb: int = 1024
    threads: int = 1
    device: str = "cpu"

    def key(self) -> str:
        """Digest of what decides the matches: not where things lie, nor who works on them."""
        told = None if self.damage is None else self.damage.model_dump(mode="json")
        return provenance.digest(self.content, told, self.open().halved)

    def open(self) -> Sections:
        """The sections; the same object in one process while the place and the files there are."""
        stamps = [volume_stamp(p) for p in (self.volume, self.mask) if p is not None]
        return _opened(self.model_dump_json(), tuple(stamps))


@functools.lru_cache(maxsize=1)
def _opened(text: str, _stamps: tuple[Any, ...]) -> Sections:
    place = Place.model_validate_json(text)
    volume = opening.open(place.volume)
    damage = None
    if place.damage is not None:
        kept = Path(place.run) / "damage" / damage_key(place)
        damage = SectionDamage(volume, place.damage, kept, place.memory_mb // 4)
    return Sections(
        volume,
        matches=None if place.mask is None else opening.open(place.mask),
        damage=damage,
        memory_mb=place.memory_mb,
    )


def damage_key(place: Place) -> str:
    """Digest of what decides the damage: what another volume, other settings or older code found
    in a run that was stopped must not mask this one."""
    told = None if place.damage is None else place.damage.model_dump(mode="json")
    return provenance.digest(place.content, told, [source_digest(m) for m in DAMAGE_CODE])


def forget() -> None:
    """Let go of the sections that were opened last, and of their memory."""
    _opened.cache_clear()


class BlockMatcher:
    """Does rounds of matching on an engine (petavox.align.matching.Matcher).

    slab: sections of one block.  A slab also reads the partners before it.
    """

    def __init__(self, place: Place, ledger: Ledger, engine: Engine | None, slab: int) -> None:
        self.place, self.ledger, self.engine, self.slab = place, ledger, engine, slab

    def __call__(self, of: Round) -> list[Matches]:
        """The matches of a round, in ascending order of the pairs' later section."""
        run = Path(self.place.run)
        kept = run / "rounds" / f"{of.name}.npz"
        text = write_round(kept, of)
        place = run / "place.json"
        provenance.write_atomically(place, self.place.model_dump_json())
        side = of.size * (of.size // 2 + 1) * 8 * (1 + of.textured)
        # what the source keeps, the spectra of about eight sections, the libraries
        memory = (self.place.memory_mb << 20) + 8 * of.batch * side + 400_000_000
        task = BlockTask(
            f"align-{of.name}",
            "petavox.stages.align_blocks:match_slab",
            Grid(Box((0, 0, 0), (len(of.group), 1, 1)), (self.slab, 1, 1)),
            reads={"round": str(kept), "place": str(place)},
            writes={"matches": str(run / "matches" / of.name)},
            inputs={"round": provenance.digest(text), "place": self.place.key()},
            code=CODE,
            costs=Costs(memory_bytes=memory),
        )
        run_task(task, ledger=self.ledger, engine=self.engine, quiet=True)
        out: list[Matches] = []
        for block in task.grid:
            out += read_matches(_file(task.writes["matches"], block))
        return out


def match_slab(block: Block, context: Context) -> Counters:
    """Match the sections of a slab with their earlier partners; writes one npz."""
    place = Place.model_validate_json(Path(context.reads["place"]).read_text())
    # a worker that is pinned to a device says so; the rest is not told, and says cpu
    device = place.device if context.device == "cpu" else context.device
    of = read_round(Path(context.reads["round"]))
    own = of.group[block.write.start[0] : block.write.stop[0]]
    with one_torch_thread(), ThreadPoolExecutor(place.threads) as pool:
        found = matching.matched(place.open(), of, own, device=device, run=pool.map)
    write_matches(_file(context.writes["matches"], block), found)
    give_back()
    return {"pairs": len(found), "matches": sum(len(m.p) for m in found)}


def _file(folder: str, block: Block) -> Path:
    return Path(folder) / f"{block.number:06d}.npz"


def write_round(path: Path, of: Round) -> bytes:
    """Write a round; returns what its digest is taken of."""
    plain = {k: v for k, v in vars(of).items() if k != "pulls"}
    arrays: dict[str, Any] = {}
    for k, f in of.pulls.items():
        arrays[f"{k}.matrix"], arrays[f"{k}.shift"] = f.matrix, f.shift
        if f.lattice is not None and f.displacement is not None:
            arrays[f"{k}.origin"] = np.asarray([*f.lattice.origin, f.lattice.spacing])
            arrays[f"{k}.displacement"] = f.displacement
    text = json.dumps(plain, sort_keys=True, default=int)
    held = io.BytesIO()
    np.savez(held, plain=text, **arrays)
    provenance.write_atomically(path, held.getvalue())
    return text.encode() + b"".join(np.ascontiguousarray(a).tobytes() for a in arrays.values())


def read_round(path: Path) -> Round:
    """A round that `write_round` wrote."""
    with np.load(path, allow_pickle=False) as z:
        plain = json.loads(str(z["plain"]))
        pulls = {}
        for k in plain["group"]:
            lattice, displacement = None, None
            if f"{k}.displacement" in z.files:
                displacement = z[f"{k}.displacement"]
                y, x, spacing = z[f"{k}.origin"].tolist()
                lattice = frames.Lattice((y, x), spacing, displacement.shape[:2])
            pulls[k] = frames.Field(z[f"{k}.matrix"], z[f"{k}.shift"], lattice, displacement)
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    return Round(pulls=pulls, **lists)


def write_matches(path: Path, found: list[Matches]) -> None:
    """Write lists of matches as one npz."""
    held = io.BytesIO()
    np.savez_compressed(
        held,
        pair=np.array([[m.a, m.b, len(m.p)] for m in found], np.int64).reshape(-1, 3),
        facts=np.array([[m.stride, m.information] for m in found], float).reshape(-1, 2),
        points=np.concatenate([np.zeros((0, 4)), *(np.hstack([m.p, m.q]) for m in found)]),
        weight=np.concatenate([np.zeros(0), *(m.weight for m in found)]),
    )
    provenance.write_atomically(path, held.getvalue())


def read_matches(path: Path) -> list[Matches]:
    """What `write_matches` wrote."""
    with np.load(path, allow_pickle=False) as z:
        pair, facts, points, weight = z["pair"], z["facts"], z["points"], z["weight"]
    cuts = np.concatenate([[0], np.cumsum(pair[:, 2])])
    return [
        Matches(
            int(a),
            int(b),
            points[i:j, :2],
            points[i:j, 2:],
            weight[i:j],
            float(stride),
            information=float(information),
        )
        for (a, b, _), (stride, information), i, j in zip(
            pair, facts, cuts[:-1], cuts[1:], strict=True
        )
    ]
