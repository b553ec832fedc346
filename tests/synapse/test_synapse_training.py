import json

import numpy as np
import pytest
import torch
import yaml

from petavox.errors import AlreadyExists, BadInput
from petavox.learn.augment import AugmentSettings
from petavox.learn.training_run import RunSettings, run
from petavox.space import Box
from petavox.stages.synapses_train import train
from petavox.synapse import targets
from petavox.synapse.examples import ExampleSettings, Sampler, Source
from petavox.synapse.model import SynapseSpec, load_model
from petavox.synapse.trainer import SynapseTrainer, SynapseTrainerSettings, loss_of
from petavox.volume.opening import create, finish

SPEC = SynapseSpec(
    classes=("cleft", "mitochondria"),
    features=(4, 6),
    kernels=((1, 3, 3), (3, 3, 3)),
    steps=((1, 2, 2),),
)


def bright(shape=(10, 40, 40), start=(5, -7, 0)) -> Source:
    """Clefts are bright slabs, mitochondria dark ones, in noise; the rest is grey."""
    rng = np.random.default_rng(1)
    image = rng.integers(110, 140, shape).astype(np.uint8)
    cleft, mito = np.zeros((2, *shape), bool)
    cleft[3:6, 10:24, 12:15] = True
    mito[:, 28:36, 20:36] = True
    image[cleft], image[mito] = 230, 30
    bits = targets.bits({"cleft": cleft, "mitochondria": mito}, SPEC.classes)
    box = Box.of_shape(shape, start)
    return Source(
        "bright", box, lambda b: image[b.slices(start)], lambda b: bits[b.slices(start)],
        targets.known_bits(["cleft", "mitochondria"], SPEC.classes),
        np.argwhere(cleft) + np.array(start),
    )  # fmt: skip


def settings(**changes) -> SynapseTrainerSettings:
    given = {
        "seed": 4, "batch": 2, "examples": {"patch": (6, 16, 16), "near": 0.5},
        "augment": {"transpose": True, "contrast_chance": 0.3, "noise_chance": 0.3},
        "optimiser": {"rate": 1e-2, "mean_decay": 0.9},
    }  # fmt: skip
    return SynapseTrainerSettings.model_validate(given | changes)


def same(a: SynapseTrainer, b: SynapseTrainer) -> bool:
    pairs = [(a.network.state_dict(), b.network.state_dict()), (a.mean, b.mean)]
    return all(torch.equal(x[k], y[k]) for x, y in pairs for k in x)


def test_a_resumed_training_is_the_same_training(tmp_path):
    one, two = (SynapseTrainer(SPEC, [bright()], settings()) for _ in range(2))
    for _ in range(5):
        one.step()
    for _ in range(3):
        two.step()
    two.save(tmp_path, {"best": 1.0})
    again = SynapseTrainer(SPEC, [bright()], settings())
    facts = again.restore(tmp_path / "step-00000003")
    assert facts["best"] == 1.0
    assert again.fovs == 6
    for _ in range(2):
        again.step()
    assert same(one, again)
    with pytest.raises(BadInput, match="seed is 9"):
        SynapseTrainer(SPEC, [bright()], settings(seed=9)).restore(tmp_path / "step-00000003")
    other = SPEC.model_copy(update={"features": (4, 7)})
    with pytest.raises(BadInput, match="another model"):
        SynapseTrainer(other, [bright()], settings()).restore(tmp_path / "step-00000003")


def test_the_run_saves_says_and_exports(tmp_path):
    t = SynapseTrainer(SPEC, [bright()], settings(steps=4))
    how = RunSettings(say_every=2, save_steps=2)
    figures = run(t, tmp_path, how, validate=lambda m: {"error": 0.25}, quiet=True)
    assert figures["steps"] == 4
    assert figures["best_error"] == 0.25
    lines = [json.loads(x) for x in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if "loss" in x] == [2, 4]
    assert "cleft_f1" in lines[0]
    model = load_model(tmp_path / "best.safetensors")
    assert model.spec.provenance["steps"] == 4
    assert model.spec.classes == SPEC.classes


def test_low_precision_keeps_weights_whole():
    t = SynapseTrainer(SPEC, [bright()], settings(precision="bf16"))
    assert np.isfinite(t.step()["loss"])
    assert all(p.dtype == torch.float32 for p in t.network.parameters())


# -- loss ------------------------------------------------------------------------------------


def test_loss_of_what_is_not_known_is_nothing():
    logits = torch.full((1, 2, 1, 1, 4), 3.0, requires_grad=True)
    target = torch.zeros(1, 2, 1, 1, 4)
    known = torch.ones_like(target)
    known[:, 1] = 0
    loss_of(logits, target, known, 5.0, 0.5).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0] != 0).all()
    assert (logits.grad[:, 1] == 0).all()


def test_loss_by_hand():
    logits = torch.zeros(1, 1, 1, 1, 4)
    target = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 1, 1, 4)
    # every voxel has log 2 of cross-entropy; said 4 times a half, true 1, both a half
    missed = 1 - (2 * 0.5 + 100) / (2 + 1 + 100)
    found = loss_of(logits, target, torch.ones_like(target), 3.0, 0.5)
    assert float(found) == pytest.approx(np.log(2) + 0.5 * missed)


# -- examples --------------------------------------------------------------------------------


def test_examples_are_functions_of_their_number():
    how = ExampleSettings(patch=(6, 16, 16), near=0.5)
    a, b = (Sampler([bright()], how, AugmentSettings(noise_chance=1.0), seed=2) for _ in range(2))
    late = a.example(7)[0]
    b.example(0)
    again = b.example(7)[0]
    assert all(np.array_equal(x, y) for x, y in zip(late, again, strict=True))
    other = Sampler([bright()], how, AugmentSettings(), seed=2, feeder=1).example(7)[0]
    assert not np.array_equal(late.image, other.image)


def test_near_patches_hold_a_cleft():
    how = ExampleSettings(patch=(6, 16, 16), near=1.0)
    sampler = Sampler([bright()], how, AugmentSettings(), seed=2)
    for n in range(20):
        sample, known = sampler.example(n)
        assert sample.labels.shape == sample.image.shape == (6, 16, 16)
        assert (sample.labels & 1).any()
        assert known == 3
        # image and targets were moved alike
        assert ((sample.labels & 1 > 0) == (sample.image > 0.8)).all()


def test_sources_that_do_not_fit_are_told():
    with pytest.raises(BadInput, match="use a larger box or a smaller"):
        Sampler([bright()], ExampleSettings(patch=(12, 16, 16)), AugmentSettings())
    bare = Source("bare", bright().box, bright().image, bright().targets, 3, np.zeros((0, 3), int))
    with pytest.raises(BadInput, match="voxel of a cleft"):
        Sampler([bare], ExampleSettings(patch=(6, 16, 16)), AugmentSettings())
    with pytest.raises(BadInput, match="multiple"):
        SynapseTrainer(SPEC, [bright()], settings(examples={"patch": (6, 15, 16)}))


# -- targets ---------------------------------------------------------------------------------


def test_sides_from_a_table():
    labels = np.full((9, 20, 20), 1, np.uint64)
    labels[:, :, 10:] = 2
    # the centre of voxel 4, 10 of 40 x 4 nm, and the face between 9 and 10
    at = np.array([[180.0, 42.0, 40.0]])
    masks = targets.from_table(
        labels, (0, 0, 0), (40, 4, 4), at, np.array([1]), np.array([2]),
        radius_nm=30, depth_nm=12, cleft_nm=4,
    )  # fmt: skip
    row = [
        "".join(n[0] if masks[n][4, 10, x] else "." for n in ("cleft", "pre"))
        + ("o" if masks["post"][4, 10, x] else ".")
        for x in range(6, 14)
    ]
    assert row == ["...", ".p.", ".p.", "c..", "c..", "..o", "..o", "..."]
    assert not masks["cleft"][3].any()  # 40 nm away is beyond the radius
    y = np.flatnonzero(masks["cleft"][4].any(1))
    assert (y.min(), y.max()) == (3, 17)


def test_a_class_that_the_model_lacks_is_told():
    with pytest.raises(BadInput, match="'pre' is not one"):
        targets.bits({"pre": np.ones((1, 1, 1), bool)}, ("cleft",))


# -- files -----------------------------------------------------------------------------------


def volumes(folder):
    source = bright()
    bits = source.targets(source.box)
    for name, values in {
        "image": source.image(source.box),
        "cleft": (bits & 1).astype(np.uint8),
        "mitochondria": (bits >> 1 & 1).astype(np.uint8),
    }.items():
        made = create(
            folder / f"{name}.zarr", box=source.box, voxel_size=(40, 4, 4), dtype=np.uint8,
            kind="image" if name == "image" else "labels", chunk=(5, 20, 20), shard=(10, 40, 40),
        )  # fmt: skip
        made.write(source.box, values)
        finish(made, {})


def request(**changes):
    masks = {"image": "image.zarr", "cleft": "cleft.zarr", "mitochondria": "mitochondria.zarr"}
    return {
        "kind": "synapses",
        "model": SPEC.model_dump(exclude={"provenance", "voxel_size"}, mode="json"),
        "volumes": [masks],
        "validation": masks | {"within_nm": 100, "min_size_nm3": 5000},
        "trainer": {
            "steps": 150, "batch": 2, "examples": {"patch": [6, 16, 16]},
            "optimiser": {"rate": 0.01, "mean_decay": 0.9},
        },
    } | changes  # fmt: skip


def test_petavox_train_with_masks(tmp_path):
    from typer.testing import CliRunner

    from petavox.cli.app import app

    volumes(tmp_path)
    (tmp_path / "synapses.yaml").write_text(yaml.safe_dump(request()))
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["train", str(tmp_path / "synapses.yaml"), "--out", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["validation_f1"] == 1.0
    assert load_model(out / "best.safetensors").spec.voxel_size == (40, 4, 4)
    with pytest.raises(AlreadyExists, match="--resume"):
        train(request(), out, base=tmp_path)


MASKS = {"image": "image.zarr", "cleft": "cleft.zarr"}
PART = {"image": "image.zarr", "cleft": "part.zarr"}
WIDE = {"image": "wide.zarr", "cleft": "wide.zarr"}
PHANTOM = {"phantom": {"seed": 1, "shape": [16, 24, 24], "voxel_size": [10, 10, 10]}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"volumes": [{"image": "image.zarr"}]}, "give `image` with `cleft`"),
        ({"volumes": [{"image": "image.zarr", "cleft": "$NOWHERE/c.zarr"}]}, "not set"),
        ({"kind": "clefts"}, "kind"),
        ({"volumes": [{"image": "i", "cleft": "c", "table": "t"}]}, "go together"),
        ({"volumes": [{"image": "i", "cleft": "c", "labels": "l"}]}, "go together"),
        ({"volumes": [{"image": "i", "phantom": {"seed": 1}}]}, "stands alone"),
        ({"volumes": [PART]}, "leaves out part"),
        ({"volumes": [PHANTOM, {"image": "image.zarr", "cleft": "nowhere"}]}, "nowhere"),
        ({"volumes": [MASKS, WIDE]}, "40 x 8 x 8 nm, .* 40 x 4 x 4 nm.*any_voxel_size"),
        ({"volumes": [WIDE, WIDE], "memory_mb": 16}, "memory_mb 16, the most of them"),
        ({"trainer": {"augment": {"isotropic": True, "transpose": False}}}, "isotropic: false"),
        (
            {"volumes": [{"image": "image.zarr", "cleft": "cleft.zarr", "box": "0:99,0:9,0:9"}]},
            "leaves",
        ),
    ],
)
def test_bad_requests_are_told(tmp_path, changes, said):
    volumes(tmp_path)
    for name, shape, x in (("part", (5, 40, 40), 4), ("wide", (4, 1050, 1050), 8)):
        made = create(
            tmp_path / f"{name}.zarr", box=Box.of_shape(shape, (5, -7, 0)), voxel_size=(40, x, x),
            dtype=np.uint8, kind="labels", chunk=(5, 20, 20), shard=(10, 40, 40),
        )  # fmt: skip
        finish(made, {})
    with pytest.raises(BadInput, match=said):
        train(request(**changes), tmp_path / "out", base=tmp_path)
    assert not (tmp_path / "out").exists()


def test_annotations_of_other_voxels_than_the_image_are_refused(tmp_path):
    volumes(tmp_path)
    box = bright().box
    made = create(
        tmp_path / "coarse.zarr", box=box, voxel_size=(40, 8, 8), dtype=np.uint8, kind="labels",
        chunk=(5, 20, 20), shard=(10, 40, 40),
    )  # fmt: skip
    made.write(box, np.ones(box.shape, np.uint8))
    finish(made, {})
    (tmp_path / "s.csv").write_text("id,z_nm,y_nm,x_nm,pre,post\n1,300,30,30,1,1\n")
    for given in (
        {"cleft": "coarse.zarr"},
        {"cleft": "cleft.zarr", "mitochondria": "coarse.zarr"},
        {"labels": "coarse.zarr", "table": "s.csv"},
    ):
        asked = request(volumes=[{"image": "image.zarr"} | given])
        with pytest.raises(BadInput, match=r"coarse\.zarr of 40 x 8 x 8 nm; they must be equal"):
            train(asked, tmp_path / "out", base=tmp_path)
