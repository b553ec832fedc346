"""`petavox train` as a command: what it hands on."""

from __future__ import annotations

import inspect
import shlex

import pytest
from typer.testing import CliRunner

from petavox.cli import train as command
from petavox.cli.app import app

GIVEN = {
    "--steps": "500",
    "--minutes": "30.5",
    "--precision": "bf16",
    "--threads": "3",
    "--device": "cpu",
    "--tiles-per-device": "1",
    "--init": "start.safetensors",
    "--out": "my training",
}


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("volumes: [{image: a.zarr, labels: b.zarr}]\n")
    return path


def written(tmp_path, settings, *more):
    """The words of the `petavox train` in the job script."""
    job = tmp_path / "job.sh"
    words = ["train", str(settings), "--site", "aurora", "--write-job", str(job), *more]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (line,) = (x for x in job.read_text().splitlines() if "petavox train" in x)
    return shlex.split(line)


def test_a_job_script_has_all_options_of_the_command(tmp_path, settings):
    more = [w for pair in GIVEN.items() for w in pair]
    words = written(tmp_path, settings, *more, "--resume")
    for name, value in GIVEN.items():
        assert words.count(name) == 1
        assert words[words.index(name) + 1] == value
    assert "--resume" in words


def test_what_is_not_given_follows_from_the_site_or_is_left_out(tmp_path, settings):
    words = written(tmp_path, settings)
    assert words[words.index("--device") + 1] == "xpu"
    assert words[words.index("--tiles-per-device") + 1] == "2"
    assert not {"--steps", "--minutes", "--precision", "--threads", "--init"} & set(words)
    assert "--resume" not in words


def test_no_option_is_left_that_a_job_script_could_drop():
    options = {f"--{n.replace('_', '-')}" for n in inspect.signature(command.train).parameters}
    ours = {"--settings", "--site", "--nodes", "--write-job", "--json-", "--debug"}
    assert options - ours == {*GIVEN, "--resume"}
