"""The examples in the docstrings of what `import petavox as pv` offers."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys

import pytest

import petavox as pv

MODULES = ["petavox", "petavox.space", "petavox.datasets.catalogue"]
MODULES += sorted({h for h in pv._HOMES.values() if h.startswith("petavox.api")})


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("name", [n for n, h in pv._HOMES.items() if h.startswith("petavox.api")])
def test_every_verb_says_what_it_takes_and_shows_an_example(name):
    verb = getattr(pv, name)
    text = inspect.getdoc(verb) or ""
    assert ">>>" in text
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.name not in ("overwrite", "quiet", "workers"):
            assert parameter.name in text, parameter.name


def test_importing_petavox_loads_no_library():
    heavy = ["numpy", "torch", "tensorstore", "pydantic", "pyarrow", "xarray"]
    code = f"import sys, petavox; print([m for m in {heavy} if m in sys.modules])"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert got.stdout.strip() == "[]"


def test_a_verb_stays_a_verb_when_the_package_of_its_name_is_loaded():
    for name in ("align", "phantom", "score", "segment"):
        package = importlib.import_module(f"petavox.{name}")
        assert inspect.ismodule(package)
        assert inspect.isfunction(getattr(pv, name))


def test_dir_lists_every_public_name():
    assert set(pv.__all__) == set(pv._HOMES) <= set(dir(pv))
