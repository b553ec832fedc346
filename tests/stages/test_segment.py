"""`petavox segment` as a user meets it: results, provenance, kill -9 and resume, bad input."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial import cKDTree

import petavox as pv
from petavox.errors import PetavoxError
from petavox.ffn.flood import SeedSettings, flood
from petavox.ffn.growth import FloodSettings
from petavox.ffn.model import load_model, save_model
from petavox.ffn.predictor import Predictor
from petavox.stages.flood_watch import settled
from petavox.stages.segment import SegmentSettings, segment
from tests.ffn.brightness import brightness_spec, brightness_weights

FLOOD = {"min_segment_size": 30}
GRID = {"policy": "grid", "spacing": (6, 6, 6)}


def tissue(shape=(24, 28, 32), seed=0):
    """Eight bright cells with dark walls, and a little noise."""
    rng = np.random.default_rng(seed)
    centres = cKDTree(rng.uniform(0, 1, (8, 3)) * shape)
    near = centres.query(np.moveaxis(np.indices(shape), 0, -1), k=2)[0]
    return (np.where(near[..., 1] - near[..., 0] > 5, 190, 64) + rng.integers(0, 9, shape)).astype(
        np.uint8
    )


@pytest.fixture
def here(tmp_path):
    """A folder with an image (offset, anisotropic), a model, and settings for a small flood."""
    box = pv.Box((-4, 0, 10), (20, 28, 42))
    image = pv.create(
        tmp_path / "image.zarr", box=box, voxel_size=(40, 4, 4), dtype="uint8", kind="image"
    )
    image.write(box, tissue(box.shape))
    finish(image)
    save_model(tmp_path / "m.safetensors", brightness_spec(), brightness_weights())
    (tmp_path / "s.yaml").write_text(
        "flood: {min_segment_size: 30}\nseeds: {policy: grid, spacing: [6, 6, 6]}\n"
        "precision: f32\ndevice: cpu\ncheckpoint_every: 0\n"
    )
    return tmp_path


def finish(volume):
    from petavox.volume.opening import finish as mark

    mark(volume, {"stage": "test"})


def settings_of(seeds=GRID, **others):
    return SegmentSettings(flood=FLOOD, seeds=seeds, precision="f32", device="cpu", **others)


def run(here, out="out.zarr", **others):
    return segment(
        here / "image.zarr", here / out, here / "m.safetensors", settings_of(**others), quiet=True
    )


def command(*arguments, **others):
    return subprocess.run(
        [sys.executable, "-m", "petavox", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **others,
    )


def test_labels_lie_where_the_image_lies(here):
    figures = run(here)
    labels = pv.open(here / "out.zarr")
    assert labels.kind == "labels"
    assert labels.dtype == np.uint64
    assert labels.box == pv.Box((-4, 0, 10), (20, 28, 42))
    assert tuple(labels.voxel_size) == (40, 4, 4)
    assert figures["objects"] == len(np.unique(labels[:])) - 1 > 3
    assert figures["filled"] == pytest.approx((labels[:] > 0).mean())
    assert not (here / "out.zarr.unfinished").exists()


def test_origins_and_provenance_are_kept_beside_the_labels(here):
    figures = run(here)
    labels = pv.open(here / "out.zarr")
    origins = json.loads((here / "out.zarr/origins.json").read_text())["origins"]
    for number, origin in origins.items():
        z, y, x = origin["seed"]
        assert labels[z, y, x] == int(number)
        assert origin["voxels"] == np.count_nonzero(labels[:] == int(number))
    said = json.loads((here / "out.zarr/petavox.json").read_text())
    assert said["state"] == "complete"
    assert said["provenance"]["counters"]["fovs"] == figures["fovs"]
    assert said["provenance"]["settings"]["flood"]["min_segment_size"] == 30


def test_a_box_is_flooded_as_if_it_were_the_volume(here):
    run(here, "part.zarr", box="-4:16,2:26,12:40")
    image = pv.open(here / "image.zarr")
    part = pv.open(here / "part.zarr")
    assert part.box == pv.Box((-4, 2, 12), (16, 26, 40))
    copy = pv.create(
        here / "copy.zarr", box=pv.Box((0, 0, 0), part.box.shape), voxel_size=(40, 4, 4),
        dtype="uint8", kind="image",
    )  # fmt: skip
    copy.write(copy.box, image.read(part.box))
    finish(copy)
    segment(here / "copy.zarr", here / "b.zarr", here / "m.safetensors", settings_of(), quiet=True)
    assert (pv.open(here / "b.zarr")[:] == part[:]).all()


def test_reverse_and_points_are_the_same_flood_backwards(here):
    run(here, "a.zarr")
    origins = json.loads((here / "a.zarr/origins.json").read_text())["origins"]
    points = [origins[k]["seed"] for k in sorted(origins, key=int)]
    (here / "p.csv").write_text("".join(f"{z},{y},{x}\n" for z, y, x in points))
    for name, source in (("b", here / "a.zarr/origins.json"), ("c", here / "p.csv")):
        segment(
            here / "image.zarr", here / f"{name}.zarr", here / "m.safetensors",
            SegmentSettings(
                flood=FLOOD, seeds={"policy": "points"}, points=str(source), precision="f32",
                device="cpu",
            ),
            quiet=True,
        )  # fmt: skip
    assert (pv.open(here / "b.zarr")[:] == pv.open(here / "c.zarr")[:]).all()
    assert (pv.open(here / "a.zarr")[:] == pv.open(here / "b.zarr")[:]).all()


def test_a_fill_pass_keeps_large_ids_and_adds_new_ones(here):
    image = pv.open(here / "image.zarr")
    earlier = pv.create(
        here / "e.zarr", box=image.box, voxel_size=(40, 4, 4), dtype="uint64", kind="labels"
    )
    given = np.zeros(image.shape, np.uint64)
    given[:, :14] = np.where(image[:, :14] > 128, np.uint64(2**40 + 7), np.uint64(0))
    earlier.write(earlier.box, given)
    finish(earlier)
    segment(
        here / "image.zarr", here / "f.zarr", here / "m.safetensors",
        SegmentSettings(
            flood=FLOOD, seeds={"policy": "fill"}, earlier=str(here / "e.zarr"), precision="f32",
            device="cpu",
        ),
        quiet=True,
    )  # fmt: skip
    filled = pv.open(here / "f.zarr")[:]
    assert (filled[given > 0] == 2**40 + 7).all()
    assert filled.max() > 2**40 + 7


def test_earlier_ids_that_leave_no_room_for_new_ones_are_refused_before_the_flood(here):
    box = pv.open(here / "image.zarr").box
    values = np.zeros(box.shape, np.uint64)
    values[0, 0, 0] = 2**64 - 1
    with pytest.raises(PetavoxError, match="no room above it"):
        run(here, earlier=labels_volume(here / "e.zarr", box, values))
    assert not (here / "out.zarr").exists()


def test_objects_of_a_coarser_pass_are_obstacles_of_the_fine_one(here):
    coarse = pv.create(
        here / "c.zarr",
        box=pv.Box((-2, 0, 5), (10, 14, 21)),
        voxel_size=(80, 8, 8),
        dtype="uint64",
        kind="labels",
    )
    given = np.zeros(coarse.box.shape, np.uint64)
    given[1:5, 2:6, 3:9] = 2**40
    coarse.write(coarse.box, given)
    finish(coarse)
    settings = SegmentSettings(
        flood=FLOOD, seeds=GRID, earlier=str(here / "c.zarr"), precision="f32", device="cpu"
    )
    box = "-3:20,1:28,11:42"  # its corner lies inside a coarse voxel
    settings = settings.model_copy(update={"box": pv.Box.parse(box)})
    segment(here / "image.zarr", here / "fine.zarr", here / "m.safetensors", settings, quiet=True)
    labels = pv.open(here / "fine.zarr").read()
    held = np.zeros((24, 28, 32), bool)
    held[2:10, 4:12, 6:18] = True
    assert np.array_equal(labels == 2**40, held[1:, 1:, 1:])
    assert labels.max() > 2**40


def test_a_coarse_mask_keeps_objects_out(here):
    """Half the resolution in-plane, nonzero for x >= 28 voxels of the image."""
    mask = pv.create(
        here / "mask.zarr", box=pv.Box((-4, 0, 5), (20, 14, 21)), voxel_size=(40, 8, 8),
        dtype="uint8", kind="image",
    )  # fmt: skip
    values = np.zeros(mask.shape, np.uint8)
    values[:, :, 14 - 5 :] = 1
    mask.write(mask.box, values)
    finish(mask)
    run(here, mask=str(here / "mask.zarr"))
    labels = pv.open(here / "out.zarr")
    assert labels[:, :, 10:28].any()
    assert not labels[:, :, 32:].any()  # centres up to 27, margin 4


def test_an_interrupted_run_is_taken_up_from_its_checkpoint(here, monkeypatch):
    whole = run(here, "whole.zarr")
    from petavox.stages import flood_watch as stage

    calls = {"n": 0}
    save = stage.save_state

    def save_then_stop(file, canvas):
        save(file, canvas)
        calls["n"] += 1
        if calls["n"] == 25:
            raise KeyboardInterrupt

    monkeypatch.setattr(stage, "save_state", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        run(here, checkpoint_every=0)
    assert not (here / "out.zarr").exists()
    monkeypatch.setattr(stage, "save_state", save)
    parts = run(here, checkpoint_every=0)
    assert parts["fovs"] == whole["fovs"]
    assert (pv.open(here / "out.zarr")[:] == pv.open(here / "whole.zarr")[:]).all()


def test_an_unfinished_run_with_other_settings_is_not_mixed_in(here, monkeypatch):
    from petavox.stages import flood_watch as stage

    save = stage.save_state

    def stop(file, canvas):
        save(file, canvas)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "save_state", stop)
    with pytest.raises(KeyboardInterrupt):
        run(here, checkpoint_every=0)
    monkeypatch.undo()
    with pytest.raises(PetavoxError, match="another settings"):
        run(here, box="-4:16,0:28,10:42")


def stop_at_first_checkpoint(patch):
    from petavox.stages import flood_watch as stage

    save = stage.save_state

    def stop(file, canvas):
        save(file, canvas)
        raise KeyboardInterrupt

    patch.setattr(stage, "save_state", stop)


def interrupted(here, monkeypatch, **others):
    with monkeypatch.context() as patch:
        stop_at_first_checkpoint(patch)
        with pytest.raises(KeyboardInterrupt):
            run(here, checkpoint_every=0, **others)


def labels_volume(path, box, values):
    made = pv.create(
        path, box=box, voxel_size=(40, 4, 4), dtype=values.dtype, kind="labels", overwrite=True
    )
    made.write(box, values)
    finish(made)
    return str(path)


@pytest.mark.parametrize("name", ["earlier", "mask", "seed_mask", "shift"])
def test_a_run_is_not_taken_up_where_other_voxels_lie_at_the_same_path(here, monkeypatch, name):
    box = pv.open(here / "image.zarr").box
    values = np.zeros(box.shape, np.uint64 if name == "earlier" else np.uint8)
    values[:4, :4, :4] = 7
    path = labels_volume(here / "e.zarr", box, values)
    given = {name: (path, path) if name == "shift" else path}
    interrupted(here, monkeypatch, **given)
    values[-4:, -4:, -4:] = 9
    labels_volume(here / "e.zarr", box, values)
    with pytest.raises(PetavoxError, match=f"unfinished run with another {name}"):
        run(here, **given)
    values[-4:, -4:, -4:] = 0
    labels_volume(here / "e.zarr", box, values)
    run(here, **given)  # the same voxels again: it goes on


def test_a_run_is_not_taken_up_with_other_points_in_the_same_file(here, monkeypatch):
    (here / "p.csv").write_text("8,14,26\n4,8,20\n")
    given = {"seeds": {"policy": "points"}, "points": str(here / "p.csv")}
    interrupted(here, monkeypatch, **given)
    (here / "p.csv").write_text("8,14,26\n12,20,30\n")
    with pytest.raises(PetavoxError, match="unfinished run with another points"):
        run(here, **given)


def test_a_run_is_not_taken_up_with_another_voxel_size(here, monkeypatch):
    """It moves the seeds."""
    image = write_h5(here / "x.h5")

    def flooded(size):
        return segment(
            image, here / "out.zarr", here / "m.safetensors", settings_of(checkpoint_every=0),
            voxel_size=size, quiet=True,
        )  # fmt: skip

    with monkeypatch.context() as patch:
        stop_at_first_checkpoint(patch)
        with pytest.raises(KeyboardInterrupt):
            flooded((40, 4, 4))
    with pytest.raises(PetavoxError, match="unfinished run with another voxel_size"):
        flooded((8, 8, 8))


def test_a_run_is_not_taken_up_that_does_not_say_what_it_was_begun_with(here, monkeypatch):
    """One of an earlier version, which took no notice of a mask, say."""
    interrupted(here, monkeypatch)
    file = here / "out.zarr.unfinished" / "request.json"
    said = json.loads(file.read_text())
    del said["mask"]
    file.write_text(json.dumps(said))
    with pytest.raises(PetavoxError, match="unfinished run with another mask"):
        run(here)
    file.write_text("{")
    with pytest.raises(PetavoxError, match=r"holds a damaged request.json \(.*; delete out.zarr"):
        run(here)
    file.unlink()
    with pytest.raises(PetavoxError, match=r"holds a checkpoint without request.json; delete it"):
        run(here)
    segment(
        here / "image.zarr", here / "out.zarr", here / "m.safetensors", settings_of(), quiet=True,
        overwrite=True,
    )  # fmt: skip


def test_a_run_is_not_taken_up_by_other_code(here, monkeypatch):
    from petavox.stages import stamps

    interrupted(here, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(stamps, "source_digest", lambda m: f"another {m}")
        with pytest.raises(PetavoxError, match="run of another version of petavox"):
            run(here)
    run(here)


@pytest.mark.parametrize("every", [0, 60])
def test_killed_while_the_labels_are_written_the_same_command_ends_the_run(here, every):
    run(here, "whole.zarr")
    (here / "s.yaml").write_text(
        (here / "s.yaml").read_text().replace("checkpoint_every: 0", f"checkpoint_every: {every}")
    )
    words = (
        here / "image.zarr", here / "out.zarr", "--model", here / "m.safetensors",
        "--settings", here / "s.yaml",
    )  # fmt: skip
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, *map(str, words)],
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert json.loads((here / "out.zarr/petavox.json").read_text())["state"] == "writing"
    other = command("segment", *words, "--box", "-4:16,0:28,10:42")
    assert other.returncode != 0
    assert "another settings" in other.stderr
    done = command("segment", *words)
    assert done.returncode == 0, done.stderr
    assert (pv.open(here / "out.zarr")[:] == pv.open(here / "whole.zarr")[:]).all()


KILLED_WHILE_WRITING = """
import os, signal, sys
from petavox.cli.segment import app
from petavox.stages import segment
segment.finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
app(sys.argv[1:])
"""


def test_labels_that_another_writes_at_the_place_are_not_replaced(here):
    box = pv.open(here / "image.zarr").box
    pv.create(here / "out.zarr", box=box, voxel_size=(1, 1, 1), dtype="uint64", kind="labels")
    with pytest.raises(PetavoxError, match="is there already"):
        run(here)


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_killed_at_a_random_moment_and_resumed_gives_identical_labels(here, attempt):
    run(here, "whole.zarr")
    call = [
        sys.executable, "-m", "petavox", "segment", str(here / "image.zarr"),
        str(here / "out.zarr"), "--model", str(here / "m.safetensors"),
        "--settings", str(here / "s.yaml"),
    ]  # fmt: skip
    chance = random.Random(attempt)
    checkpoint, kills = here / "out.zarr.unfinished/checkpoint.npz", 0
    for _ in range(3):
        process = subprocess.Popen(call, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and not checkpoint.exists():
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.4))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 1
    assert subprocess.run(call, check=False, capture_output=True).returncode in (0, 2)
    assert (pv.open(here / "out.zarr")[:] == pv.open(here / "whole.zarr")[:]).all()


def test_progress_counts_seeds_inside_objects_and_goes_up_to_all_of_them(here):
    counts = []

    class Watch:
        def stepped(self, canvas, growth):
            counts.append((settled(canvas), canvas.next_seed))

    predict = Predictor(load_model(here / "m.safetensors"), device="cpu", precision="f32")
    canvas = flood(
        tissue(),
        predict,
        brightness_spec(),
        voxel_size=(40, 4, 4),
        settings=FloodSettings(**FLOOD),
        seeds=SeedSettings(**GRID),
        watcher=Watch(),
    )
    done = [n for n, _ in counts]
    assert done == sorted(done)
    assert settled(canvas) == len(canvas.seeds)
    assert any(n > tried for n, tried in counts)


def test_a_leak_is_reported_and_left_out(here, caplog):
    guarded = {"min_segment_size": 30, "max_object_share": 0.05}
    figures = segment(
        here / "image.zarr", here / "out.zarr", here / "m.safetensors",
        SegmentSettings(flood=guarded, seeds=GRID, precision="f32", device="cpu"), quiet=True,
    )  # fmt: skip
    leaks = figures["counters"]["leaks"]
    assert leaks >= 1
    assert f"{leaks} objects grew over the leak guard's share" in caplog.text
    sizes = np.unique(pv.open(here / "out.zarr")[:], return_counts=True)[1][1:]
    assert sizes.max() <= 0.05 * 24 * 28 * 32


def test_a_damaged_checkpoint_is_told_and_kept(here, monkeypatch):
    from petavox.stages import flood_watch as stage

    def damage(file, canvas):
        file.write_bytes(b"PK\x03\x04 cut off")
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "save_state", damage)
    with pytest.raises(KeyboardInterrupt):
        run(here, checkpoint_every=0)
    monkeypatch.undo()
    with pytest.raises(PetavoxError, match=r"out.zarr.unfinished/checkpoint.npz is damaged"):
        run(here)
    assert not (here / "out.zarr").exists()


def test_two_runs_at_once_do_not_share_an_output(here):
    import fcntl

    work = here / "out.zarr.unfinished"
    work.mkdir()
    with open(work / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PetavoxError, match="another process"):
            run(here)


def test_a_box_beyond_the_memory_is_refused_before_it_is_read(here, monkeypatch):
    from petavox.stages import flood_inputs as stage

    monkeypatch.setattr(stage, "memory_available", lambda: 1 << 20)
    with pytest.raises(PetavoxError, match="--blocks"):
        run(here)


def test_figures_come_as_one_json_object(here):
    done = command(
        "segment", here / "image.zarr", here / "out.zarr", "--model", here / "m.safetensors",
        "--settings", here / "s.yaml", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["objects"] > 3


def write_h5(path: Path, name="raw", array=None, **attributes):
    with h5py.File(path, "w") as f:
        f[name] = tissue() if array is None else array
        for k, v in attributes.items():
            f[name].attrs[k] = v
    return path / name


def of_array(array):
    return lambda d: {"image": write_h5(d / "x.h5", array=array, voxel_size_nm=(1, 1, 1))}


def truncated_model(d):
    (d / "m.safetensors").write_bytes((d / "m.safetensors").read_bytes()[:99])
    return {}


def incomplete_image(d):
    box = pv.Box((0, 0, 0), (16, 16, 16))
    pv.create(d / "half.zarr", box=box, voxel_size=(1, 1, 1), dtype="uint8", kind="image")
    return {"image": d / "half.zarr"}


def labels_as_image(d):
    return {
        "image": write_h5(d / "l.h5", array=tissue().astype(np.uint64), voxel_size_nm=(1, 1, 1))
    }


def existing_output(d):
    (d / "out.zarr").mkdir()
    return {}


def settings(text):
    def make(d):
        (d / "bad.yaml").write_text(text)
        return {"options": ["--settings", d / "bad.yaml"]}

    return make


def finer_earlier(d):
    made = pv.create(
        d / "finer.zarr",
        box=pv.Box((-4, 0, 10), (20, 28, 42)),
        voxel_size=(20, 4, 4),
        dtype="uint64",
        kind="labels",
    )
    finish(made)
    return options("--earlier", "HERE/finer.zarr")(d)


def options(*words):
    return lambda d: {"options": [str(w).replace("HERE", str(d)) for w in words]}


BAD = {
    "no image": (lambda d: {"image": d / "none.zarr"}, "none.zarr"),
    "no data set in the file": (lambda d: {"image": write_h5(d / "x.h5").parent / "other"}, "raw"),
    "a file that is no volume": (lambda d: {"image": d / "s.yaml"}, "s.yaml"),
    "an HDF5 file that is none": (
        lambda d: {"image": (d / "t.h5").write_text("no") and d / "t.h5/raw"}, "t.h5"),
    "no voxel size": (lambda d: {"image": write_h5(d / "x.h5")}, "voxel size"),
    "a voxel size of two numbers": (
        lambda d: {"image": write_h5(d / "x.h5", voxel_size_nm=(4, 4))}, "three"),
    "a negative voxel size": (
        lambda d: {"image": write_h5(d / "x.h5", voxel_size_nm=(4, -4, 4))}, "positive"),
    "a contradicting voxel size": (options("--voxel-size", 8, 8, 8), "40 x 4 x 4"),
    "two axes": (of_array(np.zeros((9, 9), np.uint8)), "axes"),
    "four axes": (of_array(np.zeros((2, 9, 9, 9), np.uint8)), "axes"),
    "a signed type": (of_array(tissue().astype(np.int16)), "int16"),
    "labels for an image": (labels_as_image, "uint64"),
    "an unfinished image": (incomplete_image, "not complete"),
    "all zero": (of_array(np.zeros((20, 20, 20), np.uint8)), "every voxel"),
    "NaN": (of_array(np.full((20, 20, 20), np.nan, np.float32)), "NaN"),
    "no voxels": (of_array(np.zeros((0, 20, 20), np.uint8)), ""),
    "smaller than the field of view": (of_array(tissue((8, 20, 20))), "field of view"),
    "a box outside": (options("--box", "0:99,0:28,10:42"), "0:99"),
    "a box that is no box": (options("--box", "0:9,0:9"), "z0:z1,y0:y1,x0:x1"),
    "a box that ends before it starts": (options("--box", "9:0,0:28,10:42"), "ends before"),
    "no model": (options("--model", "HERE/none.safetensors"), "none.safetensors"),
    "a truncated model": (truncated_model, "m.safetensors"),
    "a model that is a text": (options("--model", "HERE/s.yaml"), "s.yaml"),
    "an existing output": (existing_output, "--overwrite"),
    "an output that cannot be made": (lambda d: {"out": Path("/proc/nowhere/out.zarr")}, "/proc"),
    "an output inside a file": (lambda d: {"out": d / "s.yaml" / "out.zarr"}, "s.yaml"),
    "an unknown key": (settings("flood: {min_size: 3}"), "min_size"),
    "an unknown top key": (settings("floods: {}"), "floods"),
    "a wrong value": (settings("flood: {move_threshold: 1.5}"), "move_threshold"),
    "settings that are no YAML": (settings("a: [1"), "YAML"),
    "settings that are a list": (settings("- 1"), "list"),
    "no settings file": (options("--settings", "HERE/none.yaml"), "none.yaml"),
    "an unknown device": (options("--device", "abacus"), "abacus"),
    "an absent GPU": (options("--device", "xpu"), "xpu"),
    "an unknown precision": (options("--precision", "f8"), "f8"),
    "an unknown seed policy": (options("--seeds", "magic"), "magic"),
    "points without a file": (options("--seeds", "points"), "points"),
    "a points file that is none": (options("--points", "HERE/s.yaml"), "z,y,x"),
    "a step beyond the view": (options("--deltas", 8, 8, 9), "deltas along"),
    "no mask": (options("--mask", "HERE/none.zarr"), "none.zarr"),
    "earlier of finer voxels": (finer_earlier, "coarser ones by whole factors"),
    "no earlier labels": (options("--earlier", "HERE/none.zarr"), "none.zarr"),
}  # fmt: skip


@pytest.fixture(scope="module")
def runner():
    from typer.testing import CliRunner

    return CliRunner()


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_sentence_and_leaves_nothing(here, runner, case):
    from petavox.cli.segment import app

    make, said = BAD[case]
    given = make(here)
    image = given.get("image", here / "image.zarr")
    out = given.get("out", here / "out.zarr")
    before = sorted(p.name for p in here.iterdir())
    words = [image, out, "--model", here / "m.safetensors", *given.get("options", [])]
    result = runner.invoke(app, [str(w) for w in words])
    assert result.exit_code not in (0, 1, 70), (result.output, result.exception)
    lines = [x for x in result.stderr.splitlines() if "error:" in x]
    assert len(lines) == 1, result.stderr
    assert said in lines[0]
    assert "Traceback" not in result.output
    assert sorted(p.name for p in here.iterdir()) == before
    if os.path.exists(here / "out.zarr"):
        assert case == "an existing output"


def test_points_of_another_place_or_that_are_no_numbers_are_refused(here):
    given = {"seeds": {"policy": "points"}, "points": str(here / "p.csv")}
    (here / "p.csv").write_text("800,14,26\n400,8,20\n")
    with pytest.raises(PetavoxError, match=r"none of the 2 seed points in .* lies in box"):
        run(here, **given)
    (here / "p.csv").write_text("8,14,nan\n")
    with pytest.raises(PetavoxError, match="a seed point that is no number"):
        run(here, **given)


def test_earlier_objects_are_unsigned_labels_of_one_volume(here):
    box = pv.open(here / "image.zarr").box
    path = labels_volume(here / "e.zarr", box, np.zeros(box.shape, np.uint8))
    (here / "e.zarr" / "blocks.json").write_text("{}")
    with pytest.raises(PetavoxError, match=r"e.zarr holds labels of blocks: reconcile them first"):
        run(here, earlier=path)
    image = pv.create(
        here / "f.zarr", box=box, voxel_size=(40, 4, 4), dtype="float32", kind="image"
    )
    finish(image)
    with pytest.raises(PetavoxError, match="holds float32: labels are unsigned integers"):
        run(here, earlier=str(here / "f.zarr"))
