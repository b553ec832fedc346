import numpy as np
import pytest
import torch

from petavox.errors import BadInput
from petavox.space import Box, Grid
from petavox.synapse.apply import SynapsePredictor, normalised, read_box
from petavox.synapse.model import SynapseModel, SynapseSpec, load_model, load_spec, save_model
from petavox.synapse.network import UNet, initialised, reach, stride
from tests.synapse.scenes import spec

SMALL = SynapseSpec(
    features=(3, 4, 5),
    kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    steps=((1, 2, 2), (2, 2, 2)),
    image_mean=100,
    image_std=40,
)


def small(seed=3) -> SynapseModel:
    return SynapseModel(SMALL, initialised(SMALL.fresh(), seed).eval().requires_grad_(False))


@pytest.mark.parametrize(
    ("kernels", "steps"),
    [
        ([(3, 3, 3)], []),
        ([(3, 3, 3), (3, 3, 3)], [(2, 2, 2)]),
        ([(1, 3, 3), (3, 5, 3)], [(1, 2, 3)]),
    ],
)
def test_reach_is_how_far_a_changed_voxel_is_seen(kernels, steps):
    """Every voxel whose answer changes lies within reach, and the bound is nearly met."""
    near, step = np.array(reach(kernels, steps)), np.array(stride(steps))
    net = UNet([2] * len(kernels), kernels, steps, 1).eval().double()
    with torch.no_grad():  # positive weights: nothing cancels, no rectifier is shut
        for p in net.parameters():
            p.fill_(0.1)
    shape = [int(2 * (n // s + 2) * s) for n, s in zip(near, step, strict=True)]
    base = torch.zeros(1, 1, *shape, dtype=torch.float64)
    seen = np.zeros(3, int)
    for shift in np.ndindex(*step):  # wherever in its stride the voxel lies
        at = [n // 2 + s for n, s in zip(shape, shift, strict=True)]
        changed = base.clone()
        changed[0, 0, at[0], at[1], at[2]] = 1e6
        with torch.no_grad():
            moved = (net(changed) - net(base))[0, 0].abs().numpy() > 1e-9
        seen = np.maximum(seen, np.abs(np.argwhere(moved) - at).max(0))
    assert (seen <= near).all()
    assert (seen >= near - 2 * (step - 1)).all()


def test_blocks_with_their_surroundings_give_what_the_whole_gives():
    rng = np.random.default_rng(5)
    total = Box.of_shape((37, 83, 71), (-5, 3, 11))
    image = rng.integers(0, 255, total.shape).astype(np.uint8)
    predictor = SynapsePredictor(small())
    whole = predictor(image).astype(int)
    for block in Grid(total, (16, 32, 32)):
        read = read_box(block.write, total, SMALL)
        part = predictor(image[read.slices(total.start)]).astype(int)
        here = part[(slice(None), *block.write.slices(read.start))]
        there = whole[(slice(None), *block.write.slices(total.start))]
        assert np.abs(here - there).max() <= 1  # sums of another order may round to a neighbour


def test_sixteen_bits_say_what_eight_bits_say():
    rng = np.random.default_rng(6)
    image = rng.integers(0, 255, (8, 16, 16)).astype(np.uint8)
    predictor = SynapsePredictor(small())
    wide = image.astype(np.uint16) * 257
    assert np.abs(predictor(image).astype(int) - predictor(wide)).max() <= 1


def test_greys_are_normalised_on_the_scale_of_eight_bits():
    assert np.allclose(normalised(np.array([0.0, 100 / 255, 1.0], np.float32), SMALL),
                       [-2.5, 0, 155 / 40])  # fmt: skip


def test_a_model_file_comes_back_as_it_was(tmp_path):
    model = small()
    save_model(tmp_path / "m.safetensors", SMALL, model.network.state_dict())
    back = load_model(tmp_path / "m.safetensors")
    assert back.spec == SMALL == load_spec(tmp_path / "m.safetensors")
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, back.network.state_dict()[name])


def test_files_that_are_no_model_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(BadInput, match="there is no model file"):
        load_model(path)
    path.write_bytes(b"nothing")
    with pytest.raises(BadInput, match="not a whole petavox model"):
        load_model(path)
    save_model(path, SMALL, {"first": torch.zeros(3)})
    with pytest.raises(BadInput, match="lacks the weights"):
        load_model(path)
    weights = small().network.state_dict()
    weights["last.bias"][0] = torch.nan
    save_model(path, SMALL, weights)
    with pytest.raises(BadInput, match="NaN"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": ()}, "2 levels of features"),
        ({"kernels": ((2, 3, 3), (1, 3, 3))}, "odd"),
        ({"classes": ("pre", "post")}, "name cleft"),
        ({"classes": ("cleft", "pre")}, "pre and post go together"),
        ({"steps": ((0, 2, 2),)}, "at least 1"),
    ],
)
def test_impossible_geometry_is_told(changes, said):
    with pytest.raises(ValueError, match=said):
        spec(**changes)
