"""Int8 convolutions: close to float32, the same in any batch, and refused where they cannot run."""

import numpy as np
import pytest
import torch

from petavox.errors import BadInput
from petavox.ffn import int8
from petavox.ffn.flood import SeedSettings, flood
from petavox.ffn.growth import FloodSettings
from petavox.ffn.int8 import Int8Stack, activation_ranges
from petavox.ffn.model import Model, load_model
from petavox.ffn.network import ConvStack
from petavox.ffn.predictor import Predictor
from petavox.ffn.shipped import MODEL
from tests.ffn.brightness import brightness_model, brightness_spec

pytestmark = pytest.mark.skipif(not int8.available(), reason="this torch has no int8 convolutions")


@pytest.fixture(scope="module")
def shipped():
    return load_model(MODEL)


def image_of(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def views(model, n):
    image = image_of((n, *model.spec.fov), 3)
    seed = np.full(image.shape, -1.0, np.float32)
    return image, seed


def test_a_step_is_close_to_float32(shipped):
    image, seed = views(shipped, 2)
    sample = image_of((30, 30, 30))
    exact = Predictor(shipped).batch(image, seed)
    found = Predictor(shipped, precision="int8", sample=sample).batch(image, seed)
    change = exact - seed
    assert np.sqrt(np.mean((found - exact) ** 2)) < 0.05 * change.std()


def test_inner_convolutions_do_not_depend_on_the_batch():
    network = ConvStack(3, 8).eval().requires_grad_(False)
    stack = Int8Stack(network, [2.0] * 5, (9, 9, 9))
    x = torch.randn((3, 8, 9, 9, 9), generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last_3d)
    first, second = stack.inner[0]
    together = second(first(first.rounded(x)))
    for i in range(3):
        alone = second(first(first.rounded(x[i : i + 1])))
        assert torch.equal(alone[0], together[i])


def test_one_convolution_is_the_convolution_of_what_was_rounded():
    conv = torch.nn.Conv3d(4, 6, 3, padding=1).requires_grad_(False)
    whole = int8._Int8Conv(conv, 0.01, None, (5, 5, 5))
    x = torch.randn((1, 4, 5, 5, 5), generator=torch.Generator().manual_seed(1))
    x = x.contiguous(memory_format=torch.channels_last_3d)
    read = whole.rounded(x)
    steps = np.floor(x.numpy() / 0.01 + 0.5).clip(0, 255)
    assert np.abs(read.numpy().astype(float) - steps).max() <= 1  # at .5 by float32's rounding
    scale = int8.weight_scales(conv.weight)
    weight = (conv.weight / scale.view(-1, 1, 1, 1, 1)).round() * scale.view(-1, 1, 1, 1, 1)
    expected = torch.nn.functional.conv3d(read.double() * 0.01, weight.double(), padding=1)
    expected += conv.bias.double().view(1, -1, 1, 1, 1)
    torch.testing.assert_close(whole(read).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [3, 8, 32])
@pytest.mark.parametrize("kind", ["equal", "negative", "normal", "few"])
def test_no_sum_of_the_largest_activations_is_cut_off(channels, kind):
    """What 16 bits for two products would not hold: activations of 0 and 255, large weights."""
    draw = torch.Generator().manual_seed(channels)
    conv = torch.nn.Conv3d(channels, 8, 3, padding=1).requires_grad_(False)
    shape = conv.weight.shape
    conv.weight.copy_({
        "equal": torch.full(shape, 0.5),
        "negative": torch.full(shape, -0.5),
        "normal": torch.randn(shape, generator=draw),
        "few": torch.rand(shape, generator=draw).gt(0.9).float(),
    }[kind])  # fmt: skip
    conv.bias.zero_()
    whole = int8._Int8Conv(conv, 1.0, None, (5, 5, 5))
    x = 255 * torch.rand((1, channels, 5, 5, 5), generator=draw).gt(0.3).to(torch.uint8)
    found = whole(x.contiguous(memory_format=torch.channels_last_3d))
    step = whole.scale.view(-1, 1, 1, 1, 1)
    rounded = (conv.weight / step).round() * step
    expected = torch.nn.functional.conv3d(x.double(), rounded.double(), padding=1)
    torch.testing.assert_close(found.double(), expected, atol=1e-2, rtol=1e-4)


def test_scales_are_larger_only_where_two_large_weights_meet():
    weight = torch.zeros((3, 8, 3, 3, 3))
    weight[0, 0, 1, 1, 1], weight[0, 4, 1, 1, 2] = -1.0, -1.0
    weight[1, 0, 1, 1, 1], weight[1, 1, 1, 1, 1] = 1.0, -1.0  # of two signs
    weight[2, 5, 0, 1, 2], weight[2, 7, 0, 1, 2] = 1.0, 0.5
    plain, wide = (int8.weight_scales(weight, vnni=v) for v in (True, False))
    torch.testing.assert_close(plain * 127, torch.ones(3))
    torch.testing.assert_close(wide * 127, torch.tensor([2.0, 1.0, 1.5]))


def test_ranges_are_the_same_each_time_and_cover_every_layer():
    model, image = brightness_model(), image_of((18, 20, 22))
    first = activation_ranges(model.network, model.spec, image)
    assert first == activation_ranges(model.network, model.spec, image)
    assert len(first) == 2 * model.spec.depth - 1
    assert min(first) > 0


@pytest.mark.parametrize("seed", range(3))
def test_steps_and_objects_of_clear_cells_are_those_of_float32(seed):
    """Two bright cells and a dark wall: the same logits to a unit or two, and no leak.

    Not the same voxels: where many moves are as good, rounding decides which comes first.
    """
    model = brightness_model(fov=(9, 9, 9), deltas=(3, 3, 3))
    raw = np.full((21, 23, 40), 190, np.uint8)
    raw[:, :, 18:22] = 64
    raw += np.random.default_rng(seed).integers(0, 9, raw.shape, np.uint8)
    image = (raw.astype(np.float32) - 128) / 64
    exact = Predictor(model)
    whole = Predictor(model, precision="int8", sample=image)
    logits = np.full(model.spec.fov, -2.9, np.float32)
    logits[4, 4, 4] = 2.9
    for x in range(0, 32, 5):
        a, b = (p(image[6:15, 7:16, x : x + 9], logits) for p in (exact, whole))
        assert np.abs(a - b).max() < 0.02 * np.abs(a).max()
    found = flood(
        raw, whole, model.spec, voxel_size=(8, 8, 8), settings=FloodSettings(max_object_share=1),
        seeds=SeedSettings(policy="grid", spacing=(6, 6, 6)),
    ).segmentation  # fmt: skip
    left, wall, right = (
        set(np.unique(part[part > 0]).tolist()) for part in np.split(found, [18, 22], axis=2)
    )
    assert left
    assert right
    assert not wall
    assert not left & right


def test_what_cannot_run_in_int8_is_told():
    model = brightness_model()
    with pytest.raises(BadInput, match="sample"):
        Predictor(model, precision="int8")
    with pytest.raises(BadInput, match="cpu only"):
        int8.check(model.spec, torch.device("cuda"))
    spec = brightness_spec(norm="layer")
    normed = Model(spec, ConvStack(2, 4, "layer").eval())
    with pytest.raises(BadInput, match="norm"):
        Predictor(normed, precision="int8", sample=image_of((12, 12, 12)))
