"""What a worker and the interchange import before their first block: little."""

import subprocess
import sys

import pytest

import petavox.blocks


@pytest.mark.parametrize("module", ["petavox.blocks.work", "petavox.blocks.interchange"])
def test_the_processes_of_an_engine_load_no_more_than_they_need(module):
    heavy = ("pydantic", "rich", "sqlite3", "numpy", "torch")
    code = f"import sys, {module}; print(*(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_is_there():
    for name in petavox.blocks.__all__:
        assert getattr(petavox.blocks, name).__name__ == name or name == "Counters"
    assert set(petavox.blocks._HOMES) == set(petavox.blocks.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        petavox.blocks.nothing  # noqa: B018
