"""The pages: their links lead somewhere, their Python runs, their settings exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import runpy

import pytest
import yaml

from tests.conftest import ROOT
from tests.docs.pages import PAGES, name_of

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
HOOKS = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")


@pytest.fixture(scope="module")
def hooks():
    made = importlib.util.module_from_spec(HOOKS)
    HOOKS.loader.exec_module(made)
    return made


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    made = {f"{e.stem}.md" for e in EXAMPLES}
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in link and not link.startswith("mailto:"):
            target = page.parent / link
            assert target.exists() or (target.parent.name == "examples" and target.name in made), (
                link
            )


def test_every_page_has_a_place_in_the_site():
    nav = re.findall(r"(\S+\.md)", (ROOT / "mkdocs.yml").read_text())
    there = {str(p.relative_to(ROOT / "docs")) for p in PAGES if (ROOT / "docs") in p.parents}
    assert there | {f"examples/{e.stem}.md" for e in EXAMPLES} == set(nav)


def test_what_a_page_asks_to_be_filled_in_can_be(hooks):
    asked = [
        (page, found[1], found[2] or "")
        for page in PAGES
        for found in hooks.ASKED.finditer(page.read_text())
    ]
    assert len(asked) > 30
    for page, what, about in asked:
        assert hooks.made(what, about).strip(), (page, what, about)


def test_every_setting_that_is_shown_has_a_meaning(hooks):
    for page in PAGES:
        for found in hooks.ASKED.finditer(page.read_text()):
            if found[1] == "settings":
                module, _, name = found[2].partition(":")
                model = getattr(importlib.import_module(module), name)
                for key, _, _, text in hooks.fields(model):
                    assert text, f"{found[2]}: {key} has no sentence (or give docs/meanings.yaml)"


def test_a_docstring_tells_of_its_fields(hooks):
    text = "It. a, b_nm: one\n    and two.  c: three, and thin_*: four."
    assert hooks.told(text, ["a", "b_nm", "c", "thin_x"]) == {
        "a": "One and two.",
        "b_nm": "One and two.",
        "c": "Three.",
        "thin_x": "Four.",
    }


def test_comments_that_ask_for_nothing_known_are_told():
    for page in PAGES:
        for line in re.findall(r"^<!-- ?(settings|command|site)\b.*$", page.read_text(), re.M):
            assert re.search(rf"^<!-- {line} \S.* -->$", page.read_text(), re.M), (page, line)


def test_a_table_of_settings_says_key_type_default_and_meaning(hooks):
    made = hooks.settings("petavox.stages.score:ScoreSettings")
    assert "| `large` | `whole number` | `1000` | Voxels from which" in made


def test_an_example_becomes_text_and_code(hooks):
    page = hooks.example(EXAMPLES[0])
    assert page.startswith("# Flood and score")
    assert "```python\nimport numpy as np" in page
    assert "# %%" not in page


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_examples_run(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script))
    assert not list(tmp_path.iterdir())


def test_the_api_page_shows_every_verb():
    import petavox

    page = (ROOT / "docs" / "python.md").read_text()
    shown = set(re.findall(r"^::: petavox\.[\w.]*?(\w+)$", page, re.M))
    named = set(petavox._HOMES) - {"PetavoxError"}
    assert named <= shown, named - shown


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)


def test_the_python_of_the_api_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in python_blocks(ROOT / "docs" / "python.md"):
        exec(compile(block, "python.md", "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_of_petavox_in_python_blocks_exist(page):
    import petavox

    for block in python_blocks(page):
        for node in ast.walk(ast.parse(block)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "pv"
            ):
                assert hasattr(petavox, node.attr), node.attr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_yaml_blocks_are_yaml(page):
    for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.M | re.S):
        assert yaml.safe_load(block) is not None


def test_the_training_settings_of_the_guide_are_accepted():
    from petavox.settings import parse
    from petavox.stages.training_settings import TrainSettings

    text = (ROOT / "docs" / "ground-truth.md").read_text()
    block = re.search(r"^```yaml\n(.*?)^```$", text, re.M | re.S)[1]
    assert parse(TrainSettings, yaml.safe_load(block), "ground-truth.md").trainer.minutes == 120


def test_docstrings_become_lists_and_code():
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / "docs" / "docstrings.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    text = "Do it.\n\na: one\nthing.  b, c: two.\nRaises X.\n\n>>> f(1)   # doctest: +SKIP\n2"
    wanted = (
        "Do it.\n\n\n- **a**: one\n  thing.\n- **b, c**: two.\n\nRaises X.\n\n\n"
        "```python\n>>> f(1)\n2\n```"
    )
    assert made.as_markdown(text) == wanted
