"""Fixtures of all tests: where the real data lie, and a shared random generator."""

from __future__ import annotations

import os
from pathlib import Path

# two test processes share the cores; threads that wait for one another would make both crawl
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

# machines differ and are shared: how long one example takes says nothing
settings.register_profile("petavox", deadline=None)
# CI tries the same examples every time, so that its verdict is about the change it is given; people
# draw new ones at each run, and a failing one becomes an @example of its test
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "petavox")

ROOT = Path(__file__).parent.parent


def data_folder() -> Path:
    """Where real data lie: PETAVOX_DATA, or ../shared/data beside the project."""
    return Path(os.environ.get("PETAVOX_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture
def real_data():
    """A function from a relative name to a real file; skips the test where it is missing."""

    def find(name: str) -> Path:
        path = data_folder() / name
        file = next((p for p in [path, *path.parents] if p.suffix == ".h5"), path)
        if not file.exists():
            pytest.skip(f"real data not here: {path} (set PETAVOX_DATA)")
        return path

    return find


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_261)
