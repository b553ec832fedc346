"""A project: petavox.yaml, the steps it asks for, where their outputs lie, how far they are.

    project = load("cortex")
    project.outputs("render"), project.state("render").figures

What it is: reading. What it is not: the running of steps (petavox.project.driver); nothing here
loads torch, or writes.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from petavox.errors import BadInput
from petavox.project import records
from petavox.project.records import StepState
from petavox.project.settings import FILE, ProjectSettings
from petavox.project.steps import GIVEN, STEPS, TRUTH, Step, resolve
from petavox.settings import parse, read_yaml
from petavox.space import Box
from petavox.volume import places

RUN = "run"
SHIPPED = {"segmentation": "petavox.ffn.shipped", "synapses": "petavox.synapse.shipped"}
"""Where the models that come with petavox are."""


def load(place: str | Path = ".", *, subset: Box | None = None) -> Project:
    """The project in a folder, or of a petavox.yaml. Raises BadInput if there is none, or wrong.

    subset: the results of `petavox run --subset BOX`.
    """
    path = Path(place)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise BadInput(
            f"there is no project at {place} (no {FILE}): make one by `petavox init {place}`."
        )
    try:
        settings = read_yaml(file, ProjectSettings)
    except UnicodeDecodeError:
        raise BadInput(f"{file} is not text: make it again by `petavox init`.") from None
    return Project(file, settings, subset)


class Project:
    """A project as it is described, and what was done of it."""

    def __init__(self, file: Path, settings: ProjectSettings, subset: Box | None = None) -> None:
        self.file = file.absolute()
        self.folder = self.file.parent
        self.settings, self.subset = settings, subset
        self.name = settings.name
        self.work = self.folder / RUN
        self.steps: tuple[Step, ...] = ()
        self.left_out: dict[str, str] = {}
        # thing -> the step that writes it, as seen by each step and at the end
        self._makers: dict[str, dict[str, str]] = {}
        self._choose()

    def _choose(self) -> None:
        """Which steps run, and who makes what each reads."""
        given = {name: "" for name in GIVEN if getattr(self.settings.input, name)}
        given |= {f"truth_{name}": "" for name in TRUTH if getattr(self.settings.truth, name)}
        chosen = []
        for step in STEPS.values():
            why = self._why_not(step, given)
            if why:
                self.left_out[step.name] = why
                continue
            self._makers[step.name] = dict(given)
            given |= dict.fromkeys(step.writes, step.name)
            chosen.append(step)
        self.steps = tuple(chosen)
        self._final = given

    def _why_not(self, step: Step, given: dict[str, str]) -> str:
        """Why a step does not run; nothing if it does. Raises BadInput if it was asked for."""
        wanted = self.settings.wanted(step.name)
        if wanted is False or (wanted is None and not step.on):
            return "off" if wanted is False else "off unless asked for"
        missing = [r for r in step.reads if not r.endswith("?") and r != "*"]
        missing = [r for r in missing if not any(a in given for a in r.split("|"))]
        if missing:
            sources = [s.name for s in STEPS.values() if set(missing[0].split("|")) & set(s.writes)]
            why = f"there is no {missing[0].replace('|', ' or ')}"
            fix = " or ".join(
                [f"switch on {' or '.join(sources)}"] * bool(sources)
                + [f"give input.{missing[0]}"] * (missing[0] in GIVEN)
            )
        elif step.model is not None and (lack := self._no_model(step.model)):
            why, fix = lack, f"name a model at models.{step.model}"
        elif step.lacking():
            why = f"{step.lacking()} is not installed"
            fix = step.hint or "install it"
        else:
            return ""
        if wanted:
            raise BadInput(
                f"{self.file}: stage '{step.name}' is asked for, but {why}: {fix}, or set "
                f"`{step.name}: off`."
            )
        return why

    def _no_model(self, name: str) -> str:
        """Why there is no network of a name, or nothing; whether a file is good is seen later."""
        said = getattr(self.settings.models, name)
        if said is None:
            return f"models.{name} is empty"
        if said == "shipped" and not _shipped(name):
            return f"no model for {name} is shipped with this petavox"
        return ""

    # ---- where things lie

    def root(self, step: Step) -> Path:
        """The folder that holds a step's outputs: the project's, or the subset's."""
        if self.subset is None or not step.boxed:
            return self.folder
        return self.folder / "subset" / str(self.subset).replace(":", "-").replace(",", "_")

    def step(self, name: str) -> Step:
        """A step of this project. Raises BadInput for one it does not run."""
        for step in self.steps:
            if step.name == name:
                return step
        if name in self.left_out:
            raise BadInput(f"step '{name}' is left out here: {self.left_out[name]}.")
        names = ", ".join(s.name for s in self.steps)
        raise BadInput(f"there is no step '{name}'; the steps of this project are {names}.")

    def outputs(self, name: str) -> dict[str, Path]:
        """Where a step's outputs lie or will lie, by thing."""
        step = STEPS[name]
        return {thing: self.root(step) / path for thing, path in step.writes.items()}

    def inputs(self, name: str) -> dict[str, str]:
        """What a step reads: thing -> absolute path or URL; optional things only if they are."""
        return {thing: self._place(thing, maker) for thing, maker in self.makers(name).items()}

    def makers(self, name: str) -> dict[str, str]:
        """What a step reads: thing -> the step that makes it, or "" if the project gives it."""
        known, found = self._makers[name], {}
        for wish in STEPS[name].reads:
            if wish == "*":
                return {f"{m}.{t}" if m else t: m for t, m in known.items()}
            for thing in wish.rstrip("?").split("|"):
                if thing in known:
                    found[thing] = known[thing]
                    break
        return found

    def _place(self, thing: str, maker: str) -> str:
        if maker:
            return str(self.outputs(maker)[thing.rpartition(".")[2]])
        if thing.startswith("truth_"):
            return self.path(getattr(self.settings.truth, thing.removeprefix("truth_")))
        return self.path(getattr(self.settings.input, thing))

    def path(self, given: str) -> str:
        """A path of petavox.yaml: absolute, or counted from its folder; URLs as they are."""
        place = places.named(given)
        if places.is_url(place):
            return str(place)
        return str(self.folder / Path(place).expanduser())

    def find(self, things: str) -> str | None:
        """The path of the first of these things ("neurons|objects") that is given or finished."""
        for thing in things.split("|"):
            maker = self._final.get(thing)
            if maker == "" or (maker and self.state(maker).state == "done"):
                return self._place(thing, maker)
        return None

    # ---- how far it is

    @property
    def ledger_file(self) -> Path:
        """The ledger of blocks; its tasks are named STEP/TASK."""
        return self.records / "ledger.db"

    @property
    def records(self) -> Path:
        """Where records and ledger lie: run/, or that of the subset."""
        if self.subset is None:
            return self.work
        return self.work / "subset" / str(self.subset).replace(":", "-").replace(",", "_")

    def record_file(self, step: Step) -> Path:
        """The record of a step."""
        return (self.records if step.boxed else self.work) / "steps" / f"{step.name}.json"

    def state(self, name: str) -> StepState:
        """What is recorded of a step."""
        return records.read(self.record_file(STEPS[name]), name)

    # ---- settings

    @functools.cached_property
    def _parsed(self) -> dict[str, Any]:
        return {}

    def stage_settings(self, name: str) -> Any:
        """The settings of a step's stage. Raises BadInput, naming the key, if they are wrong."""
        if name not in self._parsed:
            given = self.settings.stages.get(name)
            values = dict(given) if isinstance(given, dict) else {}
            where = f"{self.file}, stages.{name}"
            model = STEPS[name].settings_class
            if self.subset is not None and STEPS[name].boxed and "box" in model.model_fields:
                # those that read the image choose their voxels; the others take what is there
                chooses = "image" in self.makers(name)
                values["box"] = str(self.subset) if chooses else None
            self._parsed[name] = parse(model, values | self._filled(name, values, where), where)
        return self._parsed[name]

    def _filled(self, name: str, values: dict[str, Any], where: str) -> dict[str, Any]:
        """Settings that follow from the project's voxel size, which is said once."""
        size = self.settings.voxel_size
        if name == "stitch":
            twice = [k for k in ("pixel_nm", "thickness_nm") if k in values]
            if twice:
                raise BadInput(f"{where}: {twice[0]} is said by voxel_size above; leave it out.")
            assert size is not None  # settings of tiles without it are refused
            return {"pixel_nm": size[2], "thickness_nm": size[0]}
        of_file = "image" in self.makers(name) and not self.makers(name)["image"]
        found: dict[str, Any] = {}
        if of_file and size is not None and "voxel_size" in STEPS[name].settings_class.model_fields:
            if values.get("voxel_size") not in (None, size, list(size)):
                raise BadInput(f"{where}: voxel_size is said at the top of the file; leave it out.")
            found["voxel_size"] = size
        if name == "qc":
            found["aligned"] = values.get("aligned", True)
        return found

    def model(self, step: Step) -> Path | None:
        """The network of a step, as a file."""
        if step.model is None:
            return None
        said = getattr(self.settings.models, step.model)
        return _shipped(step.model) if said == "shipped" else Path(self.path(said))


def _shipped(name: str) -> Path | None:
    """The network of a name that comes with petavox, if one does."""
    try:
        file = Path(resolve(f"{SHIPPED[name]}:MODEL"))
    except (ImportError, AttributeError):
        return None
    return file if file.is_file() else None
