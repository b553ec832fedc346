from __future__ import annotations

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
