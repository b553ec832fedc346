"""What commands that run blocks share."""

from __future__ import annotations

import pytest

from petavox.blocks import Ledger
from petavox.cli.running import running
from petavox.errors import BadInput, PetavoxError


def test_a_second_command_leaves_the_folder_of_the_first_alone(tmp_path, monkeypatch):
    """Both saw no folder; the first has it now, and the second is refused."""
    folder = tmp_path / "out.run"
    with Ledger(folder / "ledger.db"):
        monkeypatch.setattr(type(folder), "exists", lambda self: False)
        with pytest.raises(PetavoxError), running(folder):
            pytest.fail("two drivers work on one ledger")
        monkeypatch.undo()
        assert (folder / "ledger.db").is_file()


def test_a_command_that_is_refused_before_it_plans_leaves_no_folder(tmp_path):
    folder = tmp_path / "out.run"
    with pytest.raises(BadInput), running(folder):
        raise BadInput("no.")
    assert not folder.exists()
