"""Who is to blame: the block, or the machine that it was on."""

from __future__ import annotations

import pytest

from petavox.blocks import Ledger, Limits, run
from petavox.blocks.engines import Event
from petavox.blocks.hosts import Hosts
from petavox.errors import WorkFailed
from tests.blocks.test_runner import pattern


class Nodes:
    """An engine of nodes; `broken` ones fail every block at once, before all others are done."""

    name, limits = "nodes", None

    def __init__(self, nodes: int, broken: set[str], *, bad: tuple[int, ...] = ()) -> None:
        self.workers = nodes
        self.nodes = [f"n{k}" for k in range(nodes)]
        self.broken, self.bad = broken, bad
        self.held: list[str] = []
        self.queue: list[tuple[int, list[int]]] = []

    def begin(self, **_):
        return []

    def inside(self):
        return []

    def submit(self, ticket, job):
        self.queue.append((ticket, job["numbers"]))

    def avoid(self, host):
        if set(self.nodes) <= {host}:
            return False
        self.held.append(host)
        self.nodes.remove(host)
        return True

    def events(self, _wait_s):
        quick = [n for n in self.nodes if n in self.broken]
        ticket, numbers = self.queue.pop(0)
        host = quick[0] if quick else self.nodes[ticket % len(self.nodes)]
        back = {"seconds": 1.0, "host": host, "device": "cpu"}
        error = {"type": "RuntimeError", "message": "no device", "trace": ""}
        wrong = [n for n in numbers if host in self.broken or n in self.bad]
        return [
            Event(
                ticket,
                [
                    {"number": n, **back, **({"error": error} if n in wrong else {"counters": {}})}
                    for n in numbers
                ],
            )
        ]


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.db") as made:
        yield made


def test_one_broken_node_among_many_does_not_end_the_run(ledger):
    engine = Nodes(8, {"n3"})
    outcome = run(pattern(100), ledger=ledger, engine=engine, quiet=True, bundle=1)
    assert outcome.complete
    assert engine.held == ["n3"]
    assert ledger.tasks()[0]["failed"] == 0


def test_an_error_that_comes_from_everywhere_still_stops_the_run(ledger):
    engine = Nodes(8, set(), bad=tuple(range(100)))
    with pytest.raises(WorkFailed, match="the same error"):
        run(pattern(100), ledger=ledger, engine=engine, quiet=True, bundle=1)
    assert engine.held == []


def test_a_broken_node_that_is_alone_stops_the_run(ledger):
    with pytest.raises(WorkFailed, match="the same error"):
        run(pattern(100), ledger=ledger, engine=Nodes(1, {"n0"}), quiet=True, bundle=1)


def test_a_node_that_kills_every_worker_is_held_back_and_its_blocks_are_not_blamed(ledger):
    from petavox.blocks.outcome import Outcome
    from petavox.blocks.trouble import Trouble

    trouble = Trouble(Outcome("t", 100), ledger, Limits(), lambda _host: True)
    for number in (1, 1, 2, 2, 3):
        lost = Event(1, lost="worker", reason="died", host="n1")
        trouble.lost([number], lost)
        if trouble.again:
            trouble.again.popleft()  # it is sent again at once, to the same node
    assert trouble.outcome.quarantined == []
    assert sorted(trouble.again) == [[1], [2]]  # block 3 is under way again
    assert not trouble.stopping


def test_blocks_that_go_wrong_everywhere_hold_back_few_nodes():
    held: list[str] = []
    hosts = Hosts(lambda host: not held.append(host), limit=5)
    for k in range(100):
        hosts.well(f"n{k}")
    again = [hosts.wrong(f"n{number // 5}", number) for number in range(100)]
    assert held == [f"n{k}" for k in range(5)]
    moved = [n for numbers in again for n in numbers]
    assert moved == list(range(25))
    assert all(hosts.wrong("n99", n) == [] for n in moved)


def test_a_node_that_does_one_more_block_makes_no_room_for_another_to_be_held_back():
    held: list[str] = []
    hosts = Hosts(lambda host: not held.append(host), limit=2)
    for k in range(20):
        hosts.well(f"n{k}")
        for number in (2 * k, 2 * k + 1):
            hosts.wrong(f"n{k}", number)
        hosts.well(f"n{k}")  # a block that was under way there when it was held back
    assert held == ["n0"]
    assert hosts.wrong("n0", 90) == []
    assert hosts.wrong("n0", 91) == [90, 91]  # the same one again, with another job


def test_a_node_that_works_again_is_trusted_again():
    hosts = Hosts(lambda _host: True, limit=2)
    hosts.wrong("a", 1)
    assert hosts.wrong("a", 2) == [1, 2]
    assert hosts.wrong("a", 3) == [3]
    hosts.well("a")
    assert hosts.wrong("a", 4) == []
