"""Plans: counts in closed form against walking, alignment, intervals, bundles, projections."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from petavox.blocks import BlockTask, Costs, Ledger, projection, run
from petavox.blocks.bundle import MOST, BundleSize
from petavox.blocks.plan import interval, plan, read_voxels, require_aligned
from petavox.blocks.projection import Measured, blocks_of, project, project_all
from petavox.blocks.simulate import Machine, simulate
from petavox.blocks.sites import load
from petavox.cli.app import app
from petavox.cli.plan import _measured
from petavox.cli.running import find_ledgers
from petavox.errors import BadInput
from petavox.space import Box, Grid
from petavox.volume.opening import create, finish

small = st.tuples(*[st.integers(1, 9)] * 3)
starts = st.tuples(*[st.integers(-7, 7)] * 3)


@given(starts, small, small, st.tuples(*[st.integers(0, 5)] * 3))
@settings(max_examples=60, deadline=None)
def test_voxels_read_equal_the_sum_over_blocks(start, shape, block, context):
    grid = Grid(Box.of_shape(shape, start), block, context)
    assert read_voxels(grid) == sum(b.read.size for b in grid)


def test_a_plan_multiplies_what_a_block_needs():
    task = BlockTask(
        "t",
        "petavox.blocks.testing:nothing",
        Grid(Box((0, 0, 0), (10, 10, 10)), (5, 5, 5)),
        costs=Costs(memory_bytes=7, read_bytes=3, write_bytes=2, files=1),
    )
    made = plan(task, [2.0, 2.0])
    assert (made.blocks, made.read_bytes, made.write_bytes, made.files) == (8, 24, 16, 8)
    assert made.block_seconds == (16.0, 16.0, 16.0)
    assert plan(task).block_seconds is None


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for k in range(100):
        sample = rng.exponential(10, 40)
        truth = rng.exponential(10, 500).sum()
        _, low, high = interval(sample, 500, seed=k, draws=400)
        hits += low <= truth <= high
    assert 85 <= hits <= 100


def test_the_interval_of_many_measured_blocks_takes_little_memory_and_is_the_same():
    sample = np.random.default_rng(5).exponential(10, 20_000)
    tracemalloc.start()
    many = interval(sample, 500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20
    assert many == pytest.approx(interval(sample[:4999], 500), rel=0.05)


@pytest.mark.parametrize(
    ("total", "block", "message"),
    [
        (Box((0, 0, 0), (64, 64, 64)), (32, 32, 24), "cut the shards of out .* along x"),
        (Box((8, 0, 0), (64, 64, 64)), (32, 32, 32), "cut the shards of out .* along z"),
        (Box((0, 0, 0), (64, 64, 40)), (32, 32, 32), "end inside a shard of out along x"),
        (Box((0, 0, 0), (64, 64, 96)), (32, 32, 32), "holds only"),
    ],
)
def test_blocks_that_share_a_shard_are_refused(total, block, message):
    volume = Box((0, 0, 0), (64, 64, 64))
    with pytest.raises(BadInput, match=message):
        require_aligned(Grid(total, block), volume=volume, shard=(16, 32, 16), name="out")


def test_blocks_of_whole_shards_are_accepted_also_at_a_ragged_end():
    volume = Box((-4, 0, 0), (61, 70, 50))
    require_aligned(Grid(volume, (16, 32, 32)), volume=volume, shard=(16, 32, 16), name="out")


@given(starts, small, small, small)
@settings(max_examples=100, deadline=None)
def test_an_accepted_grid_never_has_two_blocks_in_one_shard(start, shape, block, shard):
    volume = Box.of_shape(shape, start)
    grid = Grid(volume, block)
    try:
        require_aligned(grid, volume=volume, shard=shard, name="out")
    except BadInput:
        return
    owner: dict[tuple[int, ...], int] = {}
    for b in grid:
        for piece in Grid(volume, shard).touching(b.write):
            assert owner.setdefault(piece.index, b.number) == b.number


def test_short_blocks_travel_together_and_long_ones_alone():
    size = BundleSize()
    assert size.next(left=1000, workers=2) == 1
    for _ in range(50):
        size.saw(0.001)
    assert size.next(left=100_000, workers=2) == MOST
    assert size.next(left=16, workers=2) == 2
    for _ in range(500):
        size.saw(20.0)
    assert size.next(left=100_000, workers=2) == 1


def test_a_schedule_without_faults_or_stragglers_is_perfect():
    made = simulate(1000, [3.0], Machine(nodes=5, workers_per_node=2, start_s=0, messages_per_s=0))
    assert made.wall_s == pytest.approx(300)
    assert made.efficiency == pytest.approx(1)


def test_stragglers_cost_more_where_there_are_few_blocks_a_worker():
    times = [1.0] * 99 + [50.0]
    how = {"workers_per_node": 1, "start_s": 0.0, "messages_per_s": 0.0}
    few = simulate(2000, times, Machine(nodes=1000, **how))
    many = simulate(2000, times, Machine(nodes=10, **how))
    assert few.efficiency < 0.5 < many.efficiency


def test_no_block_runs_over_the_end_of_a_job():
    # jobs of 100 s, blocks of 30 s, 10 s to start: at 10, 40, 70 (ends at 100); next at 110 ...
    made = simulate(6, [30.0], Machine(nodes=1, walltime_s=100, start_s=10, messages_per_s=0))
    assert made.wall_s == pytest.approx(200)
    assert made.jobs_rounds == 2


def test_a_job_too_short_for_a_block_is_refused():
    with pytest.raises(BadInput, match="use smaller blocks"):
        simulate(6, [90.0], Machine(nodes=1, walltime_s=100, start_s=60))


def test_lost_nodes_cost_their_blocks_and_all_is_still_done():
    how = {"workers_per_node": 2, "start_s": 0.0, "messages_per_s": 0.0}
    good = simulate(5000, [10.0], Machine(nodes=10, **how))
    bad = simulate(5000, [10.0], Machine(nodes=10, mtbf_hours=0.2, **how))
    assert bad.lost_nodes > 5
    assert bad.lost_blocks >= bad.lost_nodes
    assert bad.wall_s > good.wall_s
    assert bad.block_s == good.block_s


def test_the_driver_hands_out_only_so_many_messages_a_second():
    made = simulate(10_000, [1.0], Machine(nodes=10_000, start_s=0, messages_per_s=1000))
    assert made.wall_s == pytest.approx(11, rel=0.01)


def test_the_same_seed_gives_the_same_schedule():
    machine = Machine(nodes=7, mtbf_hours=1.0)
    assert simulate(900, [5.0, 9.0], machine) == simulate(900, [5.0, 9.0], machine)


def test_a_projection_scales_measured_blocks_to_another_volume(tmp_path):
    grid = Grid(Box((0, 0, 0), (20, 20, 20)), (10, 10, 10))
    task = BlockTask(
        "t",
        "petavox.blocks.testing:sleep",
        grid,
        settings={"seconds": 0.01},
        costs=Costs(read_bytes=1000, write_bytes=500, files=2),
    )
    with Ledger(tmp_path / "ledger.db") as ledger:
        run(task, ledger=ledger, quiet=True)
        parts = ledger.parts("t")
        assert parts is not None
        assert blocks_of(parts, None) == 8
        assert blocks_of(parts, (100, 95, 1)) == 100
        made = project(ledger, load("laptop"), nodes=1, volume=(100, 100, 100))
        faster = project(ledger, load("laptop"), nodes=1, volume=(100, 100, 100), speed=10)
    row = made["stages"]["t"]
    assert (row["blocks"], row["files_at_most"]) == (1000, 2000)
    assert row["block_seconds_mean"] >= 0.01
    assert row["worker_hours"] == pytest.approx(1000 * row["block_seconds_mean"] / 3600)
    assert row["worker_hours_95"][0] <= row["worker_hours"] <= row["worker_hours_95"][1]
    assert faster["stages"]["t"]["worker_hours"] == pytest.approx(row["worker_hours"] / 10)
    assert len(made["assumptions"]) >= 5


def test_a_projection_without_measured_blocks_is_refused(tmp_path):
    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        pytest.raises(BadInput, match="no measured blocks"),
    ):
        project(ledger, load("laptop"), nodes=1)


def parts_of(total, block):
    return {"grid": [[0, 0, 0], list(total), list(block), [0, 0, 0]]}


def test_levels_and_shards_grow_in_number_as_the_volume_grows():
    measured, volume = (100, 100, 100), (1000, 1000, 1000)
    # 50 shards of a file of meshes; a level with half the voxels along each axis; the whole
    assert blocks_of(parts_of((50, 1, 1), (1, 1, 1)), volume, measured) == 50_000
    assert blocks_of(parts_of((50, 50, 50), (25, 25, 25)), volume, measured) == 8000
    assert blocks_of(parts_of(measured, (30, 30, 30)), volume, measured) == 34**3
    assert blocks_of(parts_of((50, 1, 1), (1, 1, 1)), (101, 100, 100), measured) == 51
    assert blocks_of(parts_of((50, 1, 1), (1, 1, 1)), None, measured) == 50


def test_a_block_measured_in_part_counts_as_that_part():
    """A subset of 128 sections in blocks of 256: the seconds are those of half a block."""
    measured, volume = (128, 512, 512), (1024, 4096, 4096)
    assert blocks_of(parts_of(measured, (256, 256, 256)), volume, measured) == 8 * 16 * 16
    assert blocks_of(parts_of(measured, (256, 256, 256)), None, measured) == 4


def test_steps_that_a_project_does_not_run_now_are_left_out(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        for name in ("mesh/shards", "synapses/predict"):
            task = BlockTask(name, "petavox.blocks.testing:nothing",
                             Grid(Box.of_shape((4, 4, 4)), (4, 4, 4)))  # fmt: skip
            run(task, ledger=ledger, quiet=True)
        made = project_all([Measured(ledger)], load("laptop"), nodes=1, steps={"mesh"})
    assert list(made["stages"]) == ["mesh/shards"]


def test_a_projection_takes_the_largest_grid_of_a_ledger_for_the_measured_volume(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        for name, total, block in [("shards", (5, 1, 1), (1, 1, 1)), ("all", (8, 8, 8), (4, 4, 4))]:
            grid = Grid(Box.of_shape(total), block)
            run(BlockTask(name, "petavox.blocks.testing:nothing", grid), ledger=ledger, quiet=True)
        made = project(ledger, load("laptop"), nodes=1, volume=(80, 80, 80))
    assert {n: r["blocks"] for n, r in made["stages"].items()} == {"shards": 5000, "all": 8000}


@pytest.fixture
def measured(tmp_path):
    """Ledgers: all of a volume of 8 blocks; a part of 1 block, run further."""
    with Ledger(tmp_path / "all.db") as all_of_it, Ledger(tmp_path / "part.db") as part:
        for ledger, side, names in [(all_of_it, 8, ["a"]), (part, 4, ["a", "b"])]:
            for name in names:
                grid = Grid(Box.of_shape((side, side, side)), (4, 4, 4))
                task = BlockTask(name, "petavox.blocks.testing:nothing", grid)
                run(task, ledger=ledger, quiet=True)
        yield all_of_it, part


def test_what_a_subset_measured_is_projected_to_the_whole_or_not_added_to_it(measured):
    all_of_it, part = measured
    known = [Measured(all_of_it), Measured(part, (8, 8, 8), "0-4")]
    made = project_all(known, load("laptop"), nodes=1)
    assert {n: r["blocks"] for n, r in made["stages"].items()} == {"a": 8, "b": 8}
    assert [r.get("measured_on") for r in made["stages"].values()] == [None, "subset 0-4"]
    hours = [r["node_hours"] for r in made["stages"].values()]
    assert made["node_hours"] == pytest.approx(sum(hours))
    known = [Measured(all_of_it), Measured(part, None, "0-4")]
    made = project_all(known, load("laptop"), nodes=1)
    assert made["stages"]["b"]["blocks"] == 1
    assert "node_hours" not in made
    assert made["not_summed"].startswith("b: measured on a subset")


def project_of(folder, side):
    """A project whose image is a cube of so many voxels a side."""
    image = create(folder / "image.zarr", box=Box.of_shape((side, side, side)),
                   voxel_size=(8, 8, 8), dtype="uint8", kind="image")  # fmt: skip
    finish(image, {})
    (folder / "petavox.yaml").write_text("name: p\ninput: {image: image.zarr}\n")


def test_plan_finds_the_size_of_the_image_and_an_older_subset_that_was_measured(measured, tmp_path):
    project_of(tmp_path / "p", 8)
    for n, box in enumerate(("old", "begun")):
        folder = tmp_path / "p" / "run" / "subset" / box
        folder.mkdir(parents=True)
        with Ledger(folder / "ledger.db") as ledger:
            grid = Grid(Box.of_shape((4, 4, 4)), (4, 4, 4))
            if box == "old":
                task = BlockTask("b", "petavox.blocks.testing:nothing", grid)
                run(task, ledger=ledger, quiet=True)
        os.utime(folder / "ledger.db", (n, n))
    found = find_ledgers(tmp_path / "p")
    assert [path.parent.name for path in found] == ["begun", "old"]
    with Ledger(found[1], readonly=True) as ledger:
        assert _measured(ledger, tmp_path / "p", None) == Measured(ledger, (8, 8, 8), "old")
        assert _measured(ledger, tmp_path / "p", (9, 9, 9)).volume == (9, 9, 9)
        assert _measured(ledger, None, None) == Measured(ledger)
        (tmp_path / "p" / "image.zarr" / "zarr.json").unlink()
        assert _measured(ledger, tmp_path / "p", None).volume is None


def test_an_old_subset_whose_ledger_is_damaged_does_not_end_the_plan(tmp_path, caplog):
    project_of(tmp_path / "p", 64)
    broken = tmp_path / "p" / "run" / "subset" / "0-4" / "ledger.db"
    broken.parent.mkdir(parents=True)
    broken.write_text("no database, although as long as the header of one is" * 10)
    done = CliRunner().invoke(app, ["plan", str(tmp_path / "p")])
    assert done.exit_code == 0, done.output
    assert "no block was measured yet" in done.output
    assert "It does not count" in caplog.text + done.stderr


def test_a_huge_task_on_few_nodes_is_simulated_in_part(monkeypatch):
    seen = []

    def counted(blocks, *rest, **options):
        seen.append(blocks)
        return simulate(blocks, *rest, **options)

    monkeypatch.setattr(projection, "simulate", counted)
    monkeypatch.setattr(projection, "SIMULATED_BLOCKS", 2000)
    laptop = load("laptop")
    for nodes in (1, 3):
        row = projection.project_task(1_000_003, [2.0], {}, laptop, nodes=nodes)
        ideal = 1_000_003 * 2.0 / (nodes * laptop.workers_per_node) / 3600
        assert row["wall_hours"] == pytest.approx(ideal, rel=0.02)
    assert max(seen) <= 2000
