import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from petavox import volume
from petavox.blocks import Context, Ledger, open_engine, runner
from petavox.errors import AlreadyExists, BadInput
from petavox.neuron import tables
from petavox.space import Box, Grid
from petavox.stages import synapses, synapses_objects, synapses_partners
from petavox.stages.synapses import SynapseSettings, find_synapses
from petavox.stages.tables import part as rows_part
from petavox.stages.tables import read as rows_read
from petavox.stages.tables import write as rows_write
from petavox.synapse import clefts
from petavox.synapse.model import save_model
from petavox.volume import state
from petavox.volume.opening import create, finish
from tests.synapse.scenes import reader_of_greys, save_reader, scene, spec

START = (-3, 10, 5)
SIZE = (10.0, 10.0, 10.0)
SMALL = {
    "min_cleft_nm3": 10_000, "min_mitochondrion_nm3": 10_000, "pyramid": False,
    "partners": {"reach_nm": 50, "min_side_nm3": 5000},
}  # fmt: skip


def write(path, values, kind, start=START):
    made = create(
        path, box=Box.of_shape(values.shape, start), voxel_size=SIZE, dtype=values.dtype,
        kind=kind, chunk=(8, 16, 16), shard=(64, 128, 128),
    )  # fmt: skip
    made.write(made.box, values)
    finish(made, {})
    return path


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synapses")
    image, labels, truth = scene()
    write(folder / "image.zarr", image, "image")
    write(folder / "labels.zarr", labels, "labels")
    save_reader(folder / "model.safetensors")
    return folder, image, truth


def find(folder, out, *, engine=None, labels="labels.zarr", **changes):
    settings = SynapseSettings.model_validate(SMALL | changes)
    with Ledger(folder / f"{out}.ledger") as ledger:
        return find_synapses(
            folder / "image.zarr",
            None if labels is None else folder / labels,
            folder / out,
            model=folder / "model.safetensors",
            settings=settings,
            ledger=ledger,
            engine=engine,
        )


@pytest.fixture(scope="module")
def whole(tissue):
    folder, *_ = tissue
    return find(folder, "whole", block=(64, 128, 128))


def table(folder, out):
    return pq.read_table(folder / out / "synapses.parquet")


def test_each_synapse_with_its_partners(tissue, whole):
    folder, _, truth = tissue
    rows = tables.checked(table(folder, "whole"), tables.SYNAPSES, "synapses").to_pylist()
    found = {}
    for row in rows:
        found.setdefault((row["id"], row["pre"]), set()).add(row["post"])
        assert 0.9 < row["score"] <= 1 or row["score"] > 0.5
    assert sorted((pre, tuple(sorted(p))) for (_, pre), p in found.items()) == sorted(truth)
    for (pre, posts), place in truth.items():
        mine = next(r for r in rows if r["pre"] == pre and r["post"] in posts)
        at = [mine[f"{a}_nm"] for a in "zyx"]
        assert np.allclose(at, (np.array(place) + START + 0.5) * 10)
    sizes = {r["pre"]: r["size"] for r in rows}
    assert sizes == {1: 8 * 16 * 2 * 1000, 4: 6 * 6 * 2 * 1000, 3: 12 * 10 * 2 * 1000}
    assert whole["synapses"] == whole["clefts"] == 3
    assert whole["partners"] == 4
    assert whole["without_pre"] == whole["without_post"] == 0


def test_clefts_and_mitochondria_are_labels(tissue, whole):
    folder, image, _ = tissue
    clefts = volume.open(folder / "whole" / "clefts.zarr")
    labels = clefts.read()
    assert clefts.box.start == START
    assert np.array_equal(labels > 0, image == 200)
    assert set(np.unique(labels[labels > 0])) == set(table(folder, "whole")["id"].to_pylist())
    mitochondria = volume.open(folder / "whole" / "mitochondria.zarr").read()
    assert np.array_equal(mitochondria > 0, image == 50)
    assert whole["mitochondria"] == 1
    said = volume.open(folder / "whole" / "predictions" / "pre.zarr").read()
    assert np.array_equal(said > 127, image == 100)


@pytest.mark.parametrize("block", [(14, 32, 36), (40, 22, 72)])
def test_blocks_equal_the_whole(tissue, whole, block):
    folder, *_ = tissue
    name = f"cut{block[1]}"
    assert find(folder, name, block=block)["synapses"] == 3
    assert table(folder, name).equals(table(folder, "whole"))
    for labels in ("clefts.zarr", "mitochondria.zarr"):
        a, b = (volume.open(folder / n / labels).read() for n in (name, "whole"))
        assert np.array_equal(a, b)


@pytest.mark.slow
def test_processes_change_nothing(tissue, whole, tmp_path):
    folder, *_ = tissue
    with open_engine(workers=2, folder=tmp_path) as engine:
        find(folder, "processes", block=(20, 32, 36), engine=engine)
    assert table(folder, "processes").equals(table(folder, "whole"))


@pytest.mark.parametrize("keys", ["same", "others"])
def test_a_worker_that_lives_on_takes_the_components_of_its_own_run(tmp_path, keys):
    """As a worker of a live engine does, which nobody tells that the tables are others."""
    one = np.ones((4, 8, 8), np.uint64)
    write(tmp_path / "fragments.zarr", one, "labels", start=(0, 0, 0))
    write(tmp_path / "clefts.zarr", one, "labels", start=(0, 0, 0))
    block = next(iter(Grid(Box.of_shape(one.shape), (4, 8, 8))))
    reads = {
        "fragments": str(tmp_path / "fragments.zarr"), "clefts": str(tmp_path / "clefts.zarr"),
        "whole": str(tmp_path),
    }  # fmt: skip
    writes = {"labels": str(tmp_path / "clefts.zarr"), "rows": str(tmp_path / "rows")}
    for component in (5, 7):
        final = {"fragment": [1], "component": [component]}
        rows_write(tmp_path / "final.parquet", {n: np.array(v, "u8") for n, v in final.items()})
        part = np.zeros(1, clefts.PARTS)
        part["id"], part["voxels"] = component, 1
        rows_write(tmp_path / "components.parquet", synapses_objects._columns(part))
        key = "same" if keys == "same" else f"run {component}"
        settings = {"block": [4, 8, 8], "key": key}
        context = Context(settings, reads, writes)
        synapses_objects.objects_block(block, context)
        assert np.unique(volume.open(tmp_path / "clefts.zarr").read()) == [component]
        synapses_partners.partners_block(block, context)
        assert rows_read(rows_part(tmp_path / "rows", 0))["id"].tolist() == [component]


def test_another_segmentation_keeps_the_predictions(tissue, whole):
    folder, *_ = tissue
    labels = volume.open(folder / "labels.zarr").read().copy()
    labels[labels == 3] = 2
    write(folder / "merged.zarr", labels, "labels")
    find(folder, "again", block=(64, 128, 128))
    before = {p: p.stat().st_mtime_ns for p in (folder / "again" / "predictions").rglob("c/**/*")}
    find(folder, "again", block=(64, 128, 128), labels="merged.zarr")
    after = {p: p.stat().st_mtime_ns for p in (folder / "again" / "predictions").rglob("c/**/*")}
    assert before == after
    pairs = {(r["pre"], r["post"]) for r in table(folder, "again").to_pylist()}
    assert pairs == {(1, 2), (4, 2), (2, 4)}


def test_a_segmentation_that_covers_a_part_leaves_the_others_without_partners(tissue):
    folder, *_ = tissue
    _, labels, _ = scene()
    write(folder / "part.zarr", labels[:20], "labels")
    figures = find(folder, "part", labels="part.zarr", block=(64, 128, 128))
    assert figures["synapses"] == 3
    assert figures["without_pre"] == figures["without_post"] == 1


def test_small_and_weak_clefts_are_left_out(tissue):
    folder, *_ = tissue
    figures = find(folder, "large", min_cleft_nm3=100_000, block=(64, 128, 128))
    assert figures["synapses"] == 2
    figures = find(folder, "none", min_cleft_nm3=1_000_000, block=(40, 32, 72))
    assert figures["synapses"] == figures["partners"] == 0
    assert table(folder, "none").num_rows == 0


def test_a_cleft_too_large_to_be_one_is_counted_and_has_no_partners(tissue, caplog):
    """The boxes of the three: 256,000, 72,000 and 240,000 nm^3."""
    folder, *_ = tissue
    partners = SMALL["partners"] | {"max_box_nm3": 250_000}
    figures = find(folder, "folded", partners=partners, block=(64, 128, 128))
    assert figures["synapses"] == 3
    assert figures["clefts_too_large"] == figures["without_pre"] == 1
    assert "1 clefts lie in a box of more than" in caplog.text
    rows = table(folder, "folded").to_pylist()
    assert [(r["pre"], r["post"]) for r in rows if r["size"] == 256_000] == [(0, 0)]
    assert {(r["pre"], r["post"]) for r in rows if r["size"] < 256_000} == {(4, 2), (3, 4)}


def test_what_lies_around_a_cleft_is_read_in_pieces(tissue, whole, monkeypatch):
    """No read is larger than a block and the reach of 50 nm, 6 voxels, on each side of it."""
    folder, *_ = tissue
    made = folder / "whole"
    reads = {k: str(made / "predictions" / f"{k}.zarr") for k in ("pre", "post")} | {
        "clefts": str(made / "clefts.zarr"),
        "whole": str(made / "work" / "cleft" / "whole"),
        "segmentation": str(folder / "labels.zarr"),
    }
    side = (20, 16, 18)
    asked = {"block": list(side), "partners": SMALL["partners"], "key": "pieces"}
    shapes, looks = [], []
    read, first = volume.Volume.read, synapses_partners._first_voxel
    monkeypatch.setattr(
        volume.Volume, "read", lambda v, box: shapes.append(box.shape) or read(v, box)
    )
    monkeypatch.setattr(
        synapses_partners, "_first_voxel", lambda *a: looks.append(len(a[0])) or first(*a)
    )
    rows = []
    for b in Grid(volume.open(reads["clefts"]).box, side):
        context = Context(asked, reads, {"rows": str(folder / "rows")})
        synapses_partners.partners_block(b, context)
        part = rows_read(rows_part(folder / "rows", b.number))
        rows += zip(part["id"].tolist(), part["pre"].tolist(), part["post"].tolist(), strict=True)
    wanted = [(r["id"], r["pre"], r["post"]) for r in table(folder, "whole").to_pylist()]
    assert sorted(rows) == sorted(wanted)
    assert (np.array(shapes) <= np.array(side) + 2 * 6).all()
    # and the table of all clefts is gone through once, not at every block
    assert looks == [3]


def test_without_a_segmentation_clefts_alone(tissue):
    folder, *_ = tissue
    figures = find(folder, "alone", labels=None, block=(64, 128, 128))
    assert figures["synapses"] == figures["without_pre"] == 3
    assert np.allclose(table(folder, "alone")["score"].to_numpy().min(), 1, atol=0.1)


def test_the_folder_says_what_made_it(tissue, whole):
    folder, *_ = tissue
    state.require_complete(folder / "whole")
    said = json.loads((folder / "whole" / "petavox.json").read_text())["provenance"]
    assert said["counters"]["synapses"] == 3
    assert said["inputs"]["segmentation"].endswith("labels.zarr")


def test_what_is_there_is_not_replaced(tissue):
    folder, *_ = tissue
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(AlreadyExists, match="is there already"):
        find(folder, "mine")


def test_too_little_memory_is_told_with_the_folder_as_it_was(tissue, monkeypatch):
    folder, *_ = tissue
    find(folder, "held", block=(64, 128, 128))
    with monkeypatch.context() as m:
        m.setattr(runner, "memory_available", lambda: 1 << 20)
        with pytest.raises(BadInput, match="GiB free"):
            find(folder, "held", block=(20, 32, 36))
        state.require_complete(folder / "held")
        with pytest.raises(BadInput, match="GiB free"):
            find(folder, "tight", block=(64, 128, 128))
        assert not (folder / "tight").exists()
    assert find(folder, "tight", block=(64, 128, 128))["synapses"] == 3


def test_a_run_stopped_before_its_first_block_goes_on_and_one_of_another_run_does_not(tissue):
    folder, *_ = tissue
    out = folder / "begun"
    out.mkdir()
    state.begin(out, stage="synapses")
    with Ledger(folder / "begun.ledger") as ledger:
        synapses._require_room(out, ledger, overwrite=False)
        (out / "predictions").mkdir()
        with pytest.raises(AlreadyExists, match="pass --overwrite"):
            synapses._require_room(out, ledger, overwrite=False)
        (out / "predictions").rename(out / "work")
        synapses._require_room(out, ledger, overwrite=True)
        state.begin(out, stage="another")
        with pytest.raises(AlreadyExists, match="choose another name"):
            synapses._require_room(out, ledger, overwrite=True)


def test_a_segmentation_that_does_not_fit_leaves_the_result_as_it_was(tissue):
    folder, *_ = tissue
    find(folder, "kept", block=(64, 128, 128))
    _, labels, _ = scene()
    write(folder / "far.zarr", labels, "labels", start=(500, 0, 0))
    write(folder / "grey.zarr", labels.astype(np.float32), "image")
    coarse = create(
        folder / "coarse.zarr", box=Box.of_shape((20, 32, 36), START), voxel_size=(20, 20, 20),
        dtype=np.uint64, kind="labels", chunk=(8, 16, 16), shard=(64, 128, 128),
    )  # fmt: skip
    finish(coarse, {})
    for name, said in (
        ("far", "share no"), ("grey", "whole numbers"), ("coarse", "at the image's resolution"),
        ("nowhere", "there is no volume"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            find(folder, "kept", labels=f"{name}.zarr", block=(64, 128, 128))
        state.require_complete(folder / "kept")
    assert table(folder, "kept").num_rows == 4


def test_what_a_model_without_a_class_does_not_make_is_not_left_from_another(tissue, tmp_path):
    folder, *_ = tissue
    find(folder, "two", block=(64, 128, 128))
    fewer = spec(classes=("cleft", "pre", "post"))
    net = reader_of_greys(spec()).state_dict()
    for name in ("last.weight", "last.bias"):
        net[name] = net[name][:3]
    save_model(tmp_path / "fewer.safetensors", fewer, net)
    with Ledger(folder / "two.ledger") as ledger:
        find_synapses(
            folder / "image.zarr", folder / "labels.zarr", folder / "two",
            model=tmp_path / "fewer.safetensors", ledger=ledger,
            settings=SynapseSettings.model_validate(SMALL | {"block": (64, 128, 128)}),
        )  # fmt: skip
    left = {p.relative_to(folder / "two").as_posix() for p in (folder / "two").rglob("*mitoch*")}
    assert left == set()
    assert table(folder, "two").num_rows == 4
    # the first model again makes all of it again
    assert find(folder, "two", block=(64, 128, 128))["mitochondria"] == 1
    labels = volume.open(folder / "two" / "mitochondria.zarr").read()
    assert np.count_nonzero(labels) == 6 * 10 * 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"block": (9, 15, 16)}, "make each side a multiple"),
        ({"box": "0:99,20:30,20:30"}, "leaves the image"),
    ],
)
def test_bad_settings_are_told_before_work(tissue, changes, said):
    folder, *_ = tissue
    with pytest.raises(BadInput, match=said):
        find(folder, "bad", **changes)
    assert not (folder / "bad").exists()


def test_models_that_do_not_fit_are_told(tissue, tmp_path):
    folder, *_ = tissue

    def asked(where, **changes):
        save_model(tmp_path / "m.safetensors", where, reader_of_greys(where).state_dict())
        with Ledger(tmp_path / "ledger") as ledger:
            find_synapses(
                folder / "image.zarr", folder / "labels.zarr", tmp_path / "out",
                model=tmp_path / "m.safetensors", ledger=ledger,
                settings=SynapseSettings.model_validate(SMALL | changes),
            )  # fmt: skip

    with pytest.raises(BadInput, match=r"trained on 40 x 4 x 4 nm"):
        asked(spec(voxel_size=(40, 4, 4)))
    sideless = spec(classes=("cleft", "mitochondria"))
    net = sideless.fresh()
    save_model(tmp_path / "m.safetensors", sideless, net.state_dict())
    with Ledger(tmp_path / "ledger") as ledger, pytest.raises(BadInput, match="no pre and post"):
        find_synapses(
            folder / "image.zarr", folder / "labels.zarr", tmp_path / "out",
            model=tmp_path / "m.safetensors", ledger=ledger,
        )  # fmt: skip
