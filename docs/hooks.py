"""What the site generates: tables of settings, of commands, of data sets; pages of examples.

What it is: hooks of mkdocs. A page asks by a comment on a line of its own:

    <!-- settings petavox.stages.segment:SegmentSettings -->   keys, defaults, meaning
    <!-- command segment -->                                   arguments and options
    <!-- commands -->                                          all commands in one table
    <!-- datasets -->                                          the catalogue of public sets
    <!-- stages -->                                            the steps of a project
    <!-- site slurm -->                                        a site that comes with petavox

and every docs/examples/NAME.py becomes the page examples/NAME. Nothing of this is typed by hand,
so nothing of it can be out of date. What it is not: text.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

DOCS = Path(__file__).parent
ASKED = re.compile(
    r"^<!-- (settings|command|commands|datasets|stages|site)(?: +(\S.*?))? -->$", re.M
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what a page asks for."""
    return ASKED.sub(lambda found: made(found[1], found[2] or ""), markdown)


def on_files(files: Any, config: Any) -> Any:
    """Add a page for every example."""
    from mkdocs.structure.files import File

    for script in sorted((DOCS / "examples").glob("*.py")):
        page = File.generated(config, f"examples/{script.stem}.md", content=example(script))
        files.append(page)
    return files


def made(what: str, about: str) -> str:
    """The text that one comment asks for."""
    makers = {
        "settings": settings,
        "command": command,
        "commands": lambda _: commands(),
        "datasets": lambda _: datasets(),
        "stages": lambda _: stages(),
        "site": site,
    }
    return makers[what](about)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    cells = [[c.replace("|", "\\|").replace("\n", " ") for c in row] for row in lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells) + "\n"


# ---- settings


def settings(path: str) -> str:
    """Keys of a settings model, nested ones dotted, with default and meaning."""
    module, _, name = path.partition(":")
    model = getattr(importlib.import_module(module), name)
    rows = [
        (f"`{key}`", f"`{kind}`", f"`{default}`" if default else "*needed*", text)
        for key, kind, default, text in fields(model)
    ]
    return table(("key", "type", "default", "meaning"), rows)


def fields(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of every setting; models inside are followed."""
    texts = meanings(model)
    common = yaml.safe_load((DOCS / "meanings.yaml").read_text())
    found: list[tuple[str, str, str, str]] = []
    for name, field in model.model_fields.items():
        inner = inner_model(field.annotation)
        if inner is not None and not prefix.startswith(f"{name}."):
            found += fields(inner, f"{prefix}{name}.")
            continue
        needed = field.is_required()
        default = "" if needed else shown(field.get_default(call_default_factory=True))
        key = prefix + name
        said = texts.get(name) or next((t for k, t in common.items() if ends_with(key, k)), "")
        found.append((key, kind_of(field.annotation), default, said))
    return found


def ends_with(key: str, end: str) -> bool:
    """True if the last parts of a dotted key are those of `end`."""
    return f".{key}".endswith(f".{end}")


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """The model that a key holds, if it always holds one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def kind_of(annotation: Any) -> str:
    """A type in a reader's words."""
    name = getattr(annotation, "__name__", str(annotation))
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "none"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(kind_of(a) for a in inside)
    if origin is typing.Literal:
        return " or ".join(str(a) for a in inside)
    if origin in (tuple, list):
        if len(inside) == 3 and len(set(inside)) == 1:
            return f"{kind_of(inside[0])} z y x"
        return "list of " + kind_of(inside[0]) if inside else name
    if origin is dict:
        return "mapping"
    if origin is typing.Annotated:
        return kind_of(inside[0])
    plain = {"int": "whole number", "float": "number", "str": "text", "bool": "yes or no"}
    return plain.get(name, name)


def shown(value: Any) -> str:
    """A default as in YAML."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(shown(v) for v in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """The sentence under each field of a model and of those it stands on."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not (issubclass(owner, BaseModel) and owner is not BaseModel):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        found |= told(inspect.getdoc(owner) or "", [*owner.model_fields])
        for field, text in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                found[field.target.id] = " ".join(text.value.value.split())
    for name, described in model.model_fields.items():
        if described.description:
            found[name] = described.description
    return found


def told(text: str, names: list[str]) -> dict[str, str]:
    """What a docstring says of fields, as `name: text.  other, third: text.  start_*: text.`"""
    flat = " ".join(text.split())
    one = "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True)) or "(?!)"
    one += r"|[a-z_]+_\*"
    marks = list(re.finditer(rf"(?:^|(?<=\s))((?:{one})(?:, (?:{one}))*): ", flat))
    found: dict[str, str] = {}
    for mark, after in itertools.zip_longest(marks, marks[1:]):
        words = flat[mark.end() : after.start() if after else len(flat)].strip()
        words = re.sub(r"[,.]?( and)?$", "", words)
        for name in mark[1].split(", "):
            start = name.removesuffix("*")
            for field in names if name.endswith("*") else [name]:
                if field == name or (name != start and field.startswith(start)):
                    found[field] = f"{words[:1].upper()}{words[1:]}."
    return found


# ---- commands


def click_command(words: list[str]) -> Any:
    """The click command that `petavox WORDS` calls."""
    import typer

    from petavox.cli.app import COMMANDS

    module = importlib.import_module(f"petavox.cli.{COMMANDS[words[0]][0]}")
    found = typer.main.get_command(module.app)
    for word in words[1:]:
        found = found.commands[word]
    return found


def command(name: str) -> str:
    """Arguments and options of a command, or of every command of a group."""
    words = name.split()
    found = click_command(words)
    inner = getattr(found, "commands", None)
    if inner is not None:
        return "\n".join(command(f"{name} {sub}") for sub in inner)
    taken = [p for p in found.params if p.param_type_name == "argument"]
    line = " ".join(["petavox", *words, *(usage(p) for p in taken)])
    rows = [(f"`{p.name.upper()}`", "", help_of(p)) for p in taken]
    rows += [
        (", ".join(f"`{o}`" for o in [*p.opts, *p.secondary_opts]), option_default(p), help_of(p))
        for p in found.params
        if p.param_type_name == "option"
    ]
    return f"    {line} [OPTIONS]\n\n" + table(("", "default", "meaning"), rows)


def usage(parameter: Any) -> str:
    """An argument as in a line of usage."""
    name = parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def help_of(parameter: Any) -> str:
    """What an argument or option is for."""
    return getattr(parameter, "help", None) or ""


def option_default(parameter: Any) -> str:
    """The default of an option, if it has one worth a word."""
    if parameter.required:
        return "*needed*"
    value = parameter.default
    if value is None or value is False or callable(value) or "Sentinel" in type(value).__name__:
        return ""
    return f"`{' '.join(map(str, value)) if isinstance(value, (tuple, list)) else value}`"


def commands() -> str:
    """All commands, each with the page that tells of it."""
    from petavox.cli.app import COMMANDS

    return table(
        ("command", "what it does"),
        [(f"`petavox {name}`", line) for name, (_, line) in COMMANDS.items()],
    )


def stages() -> str:
    """The steps of a project, in order."""
    from petavox.project.steps import STEPS

    rows = [
        (f"`{s.name}`", s.line, ", ".join(s.reads), ", ".join(f"{v}" for v in s.writes.values()))
        for s in STEPS.values()
    ]
    return table(("step", "what it does", "reads", "writes"), rows)


def site(name: str) -> str:
    """The file of a site."""
    import petavox.blocks

    file = Path(petavox.blocks.__file__).parent / "site_files" / f"{name}.yaml"
    return f"```yaml\n{file.read_text().strip()}\n```\n"


# ---- data sets and examples


def datasets() -> str:
    """The catalogue of public sets."""
    from petavox.datasets import catalogue

    rows = [
        (
            f"`{s.name}`",
            s.what,
            " x ".join(f"{v:g}" for v in s.voxel_size) + " nm",
            s.size,
            s.licence,
            "yes" if all(f.sha256 or f.md5 for f in s.files) else "no",
            s.read_in,
        )
        for s in catalogue().values()
    ]
    head = ("name", "what", "voxel, zyx", "size", "licence", "checksum", "facts read in")
    return table(head, rows)


def example(script: Path) -> str:
    """A script as a page: cells `# %% [markdown]` are text, the others are code."""
    text = script.read_text()
    out: list[str] = []
    for cell in re.split(r"^# %%", text, flags=re.M)[1:]:
        head, _, body = cell.partition("\n")
        if head.strip() == "[markdown]":
            out.append("\n".join(line.removeprefix("#").removeprefix(" ") for line in
                                 body.strip().splitlines()))  # fmt: skip
        else:
            out.append(f"```python\n{body.strip()}\n```")
    out.append(f"*The whole script: `docs/examples/{script.name}`; the tests run it.*")
    return "\n\n".join(out) + "\n"
