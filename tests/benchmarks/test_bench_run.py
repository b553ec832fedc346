"""The runner of `make bench`: what fails, hangs or comes too late is told, and the rest runs."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import run, scaling, table
from benchmarks.peers import environments
from benchmarks.peers.environments import Unavailable


def claim(name, seconds=60.0):
    return run.Claim(name, "", (name,), seconds)


@pytest.fixture
def scripts(monkeypatch):
    """Claims that run a line of Python each, in place of benchmarks."""
    lines = {}

    def command(claim):
        return [sys.executable, "-S", "-E", "-c", lines[claim.name]]

    monkeypatch.setattr(run, "command", command)
    return lines


def test_every_claim_is_a_script_that_is_there():
    names = [c.name for c in run.CLAIMS]
    assert len(set(names)) == len(names)
    for c in run.CLAIMS:
        found = importlib.util.find_spec(f"benchmarks.{c.words[0]}")
        assert found is not None, c.name
        assert all(isinstance(w, str) for w in c.words)


def test_all_claims_have_their_turn_within_forty_minutes():
    assert run.BUDGET < 40 * 60
    assert all(c.seconds < run.BUDGET / 4 for c in run.CLAIMS)


def test_a_script_that_ends_well_is_told_with_its_seconds(scripts):
    scripts["good"] = "pass"
    assert run.one(claim("good"), 60).endswith(" s")


def test_a_script_that_fails_is_told_with_its_last_words(scripts):
    scripts["bad"] = "import sys; print('first', file=sys.stderr); sys.exit('no data here')"
    assert run.one(claim("bad"), 60) == "not measured: no data here"
    scripts["silent"] = "import os; os._exit(7)"
    assert run.one(claim("silent"), 60) == "not measured: exit code 7"


def starting_another(told):
    """A script that starts a process, writes its pid to `told`, and goes on for minutes."""
    return (
        "import os, subprocess, sys, time\n"
        f"p = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(told) + '_'!r}, 'w').write(str(p.pid))\n"
        f"os.rename({str(told) + '_'!r}, {str(told)!r})\n"
        "time.sleep(600)"
    )


def too_long_once(told):
    """In place of Popen.communicate: over its time as soon as `told` is there."""

    def too_long(_process, timeout):
        while not told.exists():
            time.sleep(0.02)
        raise subprocess.TimeoutExpired("script", timeout)

    return too_long


def test_a_script_that_takes_too_long_ends_with_all_that_it_started(scripts, tmp_path, monkeypatch):
    told = tmp_path / "pid"
    scripts["long"] = starting_another(told)
    monkeypatch.setattr(subprocess.Popen, "communicate", too_long_once(told))
    assert run.one(claim("long", 3.0), 60) == "not measured: over 3 s"
    pid = int(told.read_text())
    while alive(pid):
        time.sleep(0.05)


def alive(pid):
    """False for a process that is gone, or dead and not yet taken note of by its new parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_starts_when_the_time_is_up(scripts):
    assert run.one(claim("never"), 0) == "not run: out of time"


def test_a_peer_that_cannot_be_installed_is_a_row(monkeypatch):
    def refused(*_):
        raise Unavailable("cannot be installed: no network")

    monkeypatch.setattr(run, "python_of", refused)
    generated = run.Claim("align", "", ("align", "--python", run.GENERATOR))
    assert run.one(generated, 60) == "not measured: cannot be installed: no network"


def test_all_are_run_in_order_and_the_page_is_written(scripts, monkeypatch, tmp_path):
    written, kept = [], {}
    scripts |= {"a": "pass", "b": "raise SystemExit('broken')", "c": "pass"}
    monkeypatch.setattr(run, "CLAIMS", tuple(map(claim, "abc")))
    monkeypatch.setattr(run, "emit", lambda name, **figures: kept.update(figures))
    monkeypatch.setattr(table, "main", lambda: written.append(1))
    monkeypatch.setattr(sys, "argv", ["run"])
    run.main()
    assert list(kept["claims"]) == ["a", "b", "c"]
    assert kept["claims"]["b"] == "not measured: broken"
    assert written == [1]


def test_the_page_has_the_newest_line_of_each_kind(monkeypatch, tmp_path):
    results, docs = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    docs.mkdir()
    lines = [
        {"benchmark": "meshes", "box": "a", "cpu_seconds": 9.5, "when": "2026-01-01T00:00:00"},
        {"benchmark": "meshes", "box": "a", "cpu_seconds": 7.5, "when": "2026-01-02T00:00:00"},
        {"benchmark": "meshes", "box": "b", "cpu_seconds": 3.25, "when": "2026-01-01T00:00:00"},
        {"benchmark": "meshes", "box": "c", "when": "2026-01-03T00:00:00"}
        | {f"figure{k}": k for k in range(90)},
    ]
    (results / "meshes.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    curve = {"benchmark": "scaling", "stage": "mesh", "when": "2026-01-02T00:00:00"}
    work, rows = [1, 2], [{"cpu_seconds": 1.0, "seconds": 1, "peak_mb": 9, "before_mb": 5}] * 2
    rows = [rows[0], rows[1] | {"cpu_seconds": 4.0}]
    (results / "scaling.jsonl").write_text(json.dumps(curve | scaling.fitted(work, rows)) + "\n")
    monkeypatch.setattr(table, "RESULTS", results)
    monkeypatch.setattr(table, "DOCS", docs)
    monkeypatch.setattr(table, "PAGE", docs / "benchmarks.md")
    monkeypatch.setattr(table, "PICTURE", docs / "images" / "benchmarks.png")
    table.main()
    text = (docs / "benchmarks.md").read_text()
    assert "| meshes, processor | 3.25 s | 2026-01-01 00:00 | 3 |" in text
    assert "| cpu_seconds | 7.5 |" in text
    assert "| cpu_seconds | 9.5 |" not in text
    assert "| demo | not measured |" in text
    assert "| figure89 |" not in text  # a page to read: the rest is in the file
    assert "| mesh | 1, 4 | 2.00 | 9, 9 | worse than n log n | 2026-01-02 00:00 |" in text
    assert (docs / "images" / "scaling.png").stat().st_size > 0
    assert (docs / "images" / "benchmarks.png").stat().st_size > 0


def test_a_peer_that_takes_too_long_ends_with_all_that_it_started(tmp_path, monkeypatch):
    told, script = tmp_path / "pid", tmp_path / "peer.py"
    script.write_text(starting_another(told))
    monkeypatch.setattr(subprocess.Popen, "communicate", too_long_once(told))
    monkeypatch.setattr(environments, "HERE", tmp_path)
    with pytest.raises(Unavailable, match="did not end within 5 s"):
        environments.run(Path(sys.executable), "peer.py", seconds=5)
    while alive(int(told.read_text())):
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("line", "told"),
    [("print('{\"a\": 1}')", None), ("print('no')", "gave no figures"),
     ("raise SystemExit('no licence')", "fails: no licence")],
)  # fmt: skip
def test_what_a_peer_says_is_its_figures_or_the_reason(line, told, tmp_path, monkeypatch):
    (tmp_path / "peer.py").write_text(line)
    monkeypatch.setattr(environments, "HERE", tmp_path)
    if told is None:
        assert environments.run(Path(sys.executable), "peer.py") == {"a": 1}
        return
    with pytest.raises(Unavailable, match=told):
        environments.run(Path(sys.executable), "peer.py")
