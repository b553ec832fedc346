from __future__ import annotations

import shutil

import pytest

from tests.project import small


@pytest.fixture(scope="session")
def tissue(tmp_path_factory):
    return small.tissue(tmp_path_factory.mktemp("tissue") / "tissue")


@pytest.fixture(scope="session")
def done(tissue, tmp_path_factory):
    """A finished run of the small project, and what it made; not to be changed."""
    from petavox.project.driver import run

    project = small.project(tmp_path_factory.mktemp("done") / "p", small.described(tissue))
    run(project)
    return project, small.made(project)


@pytest.fixture(scope="session")
def all_tiles(tmp_path_factory):
    """Small phantom tiles; not to be changed."""
    return small.tiles(tmp_path_factory.mktemp("tiles") / "tiles")


@pytest.fixture
def tiles(all_tiles, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(all_tiles, tmp_path / "tiles")


@pytest.fixture(scope="session")
def rendered(all_tiles, tmp_path_factory):
    """A finished run of the tiles, to an image and its truth; not to be changed."""
    from petavox.project.driver import run

    values = small.described_tiles(all_tiles) | {"truth": {"tiles": str(all_tiles)}}
    project = small.project(tmp_path_factory.mktemp("rendered") / "p", values)
    run(project)
    return project
