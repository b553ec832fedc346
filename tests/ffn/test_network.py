import numpy as np
import pytest
import torch

from petavox.ffn.model import Model, ModelSpec
from petavox.ffn.network import ConvStack, flop_per_voxel
from petavox.ffn.predictor import MixedStack, Predictor
from petavox.ffn.released import read_released
from tests.ffn import numpy_network


def spec_of(depth, features, fov):
    return ModelSpec(
        fov=fov, deltas=(1, 1, 1), depth=depth, features=features, image_mean=0, image_std=1
    )


def random_model(depth=4, features=6, fov=(5, 7, 9), norm="none"):
    torch.manual_seed(3)
    network = ConvStack(depth, features, norm).eval().requires_grad_(False)
    return Model(spec_of(depth, features, fov).model_copy(update={"norm": norm}), network)


def test_the_published_depth_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in ConvStack(12, 32).parameters()) == 638_433
    assert sum(p.numel() for p in ConvStack(9, 32).parameters()) == 472_353


def test_the_published_field_of_view_costs_the_published_operations():
    assert flop_per_voxel(12, 32) * 33**3 / 1e9 == pytest.approx(45.8, abs=0.05)


def test_forward_pass_equals_numpy_on_random_weights_and_an_anisotropic_view(rng):
    model = random_model()
    image, seed = rng.normal(size=(2, *model.spec.fov)).astype(np.float32)
    weights = {k: v.numpy() for k, v in model.network.state_dict().items()}
    expected = numpy_network.forward(weights, image, seed)
    np.testing.assert_allclose(Predictor(model)(image, seed), expected, atol=1e-5)


def test_forward_pass_equals_numpy_on_the_released_weights(real_data, rng):
    import h5py

    weights, depth, features = read_released(
        real_data("fib25/released_model/model.ckpt-27465036.index")
    )
    network = ConvStack(depth, features)
    network.load_state_dict(weights)
    model = Model(spec_of(depth, features, (33, 33, 33)), network.eval().requires_grad_(False))
    with h5py.File(real_data("fib25/training_sample2.h5")) as f:
        raw = f["raw"][50:83, 60:93, 70:103].astype(np.float32)
    image = (raw - 128) / 33
    seed = rng.normal(scale=3, size=image.shape).astype(np.float32)
    expected = numpy_network.forward({k: v.numpy() for k, v in weights.items()}, image, seed)
    assert np.abs(expected - seed).max() > 1  # the network does say something here
    assert np.abs(Predictor(model)(image, seed) - expected).max() < 1e-3
    close = Predictor(model, precision="bf16")(image, seed)
    assert np.sqrt(np.mean((close - expected) ** 2)) < 0.02


def test_a_batch_equals_its_members(rng):
    model = random_model()
    images, seeds = rng.normal(size=(2, 3, *model.spec.fov)).astype(np.float32)
    predict = Predictor(model)
    together = predict.batch(images, seeds)
    for i in range(3):
        np.testing.assert_allclose(together[i], predict(images[i], seeds[i]), atol=1e-6)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_bf16_stays_near_f32_with_and_without_norm(norm, rng):
    model = random_model(norm=norm)
    image, seed = rng.normal(size=(2, *model.spec.fov)).astype(np.float32)
    exact = Predictor(model)(image, seed)
    close = Predictor(model, precision="bf16")(image, seed)
    assert close.dtype == np.float32
    assert 0 < np.abs(close - exact).max() < 0.05 * max(1, np.abs(exact - seed).max())


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_bf16_means_the_same_on_a_processor_without_it(norm, rng):
    """The same rounding, with sums in another order: as near to each other as roundings are."""
    model = random_model(norm=norm)
    given = torch.from_numpy(rng.normal(size=(2, 2, *model.spec.fov)).astype(np.float32))
    with torch.inference_mode():
        exact = model.network(given)
        native, rounded = (MixedStack(model.network, native=n)(given) for n in (True, False))
    assert rounded.dtype == torch.float32
    off = float((native - exact).abs().mean())
    assert off > 0
    assert float((rounded - exact).abs().mean()) < 2 * off
    assert float((rounded - native).abs().mean()) < 2 * off


def test_layer_norm_normalises_the_channels_of_each_voxel():
    from petavox.ffn.network import ChannelNorm

    x = torch.randn(2, 5, 3, 4, 6)
    out = ChannelNorm(5)(x)
    torch.testing.assert_close(out.mean(1), torch.zeros(2, 3, 4, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        out.var(1, unbiased=False), torch.ones(2, 3, 4, 6), atol=1e-3, rtol=0
    )
