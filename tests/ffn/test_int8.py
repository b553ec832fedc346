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
    scale = conv.weight.abs().amax((1, 2, 3, 4)) / int8.weight_levels()
    weight = (conv.weight / scale.view(-1, 1, 1, 1, 1)).round() * scale.view(-1, 1, 1, 1, 1)
    expected = torch.nn.functional.conv3d(read.double() * 0.01, weight.double(), padding=1)
    expected += conv.bias.double().view(1, -1, 1, 1, 1)
    torch.testing.assert_close(whole(read).double(), expected, atol=1e-5, rtol=1e-5)


def test_no_sum_of_the_largest_values_is_cut_off():
    """All activations 255, all weights the largest: what 16 bits for two products would not hold."""
    conv = torch.nn.Conv3d(32, 8, 3, padding=1).requires_grad_(False)
    conv.weight.fill_(0.5)
    conv.bias.zero_()
    whole = int8._Int8Conv(conv, 1.0, None, (5, 5, 5))
    x = torch.full((1, 32, 5, 5, 5), 255, dtype=torch.uint8)
    found = whole(x.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(found[0, :, 2, 2, 2], torch.full((8,), 0.5 * 255 * 27 * 32))


def test_ranges_are_the_same_each_time_and_cover_every_layer():
    model, image = brightness_model(), image_of((18, 20, 22))
    first = activation_ranges(model.network, model.spec, image)
    assert first == activation_ranges(model.network, model.spec, image)
    assert len(first) == 2 * model.spec.depth - 1
    assert min(first) > 0


def test_a_flood_of_clear_cells_is_that_of_float32():
    model = brightness_model(fov=(9, 9, 9), deltas=(3, 3, 3))
    raw = np.full((21, 23, 40), 190, np.uint8)
    raw[:, :, 18:22] = 64
    raw += np.random.default_rng(0).integers(0, 9, raw.shape, np.uint8)
    found = []
    for precision in ("f32", "int8"):
        sample = (raw.astype(np.float32) - 128) / 64
        canvas = flood(
            raw,
            Predictor(model, precision=precision, sample=sample),
            model.spec,
            voxel_size=(8, 8, 8),
            settings=FloodSettings(max_object_share=1),
            seeds=SeedSettings(policy="grid", spacing=(6, 6, 6)),
        )
        found.append(canvas.segmentation)
    assert found[0].max() >= 2
    assert np.mean((found[0] > 0) != (found[1] > 0)) < 0.02


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
