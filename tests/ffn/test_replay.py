"""The published flood-filling result, object by object, in f32: same steps, same voxels."""

import json

import numpy as np
import pytest

from petavox.ffn.canvas import Canvas
from petavox.ffn.model import Model, ModelSpec
from petavox.ffn.network import ConvStack
from petavox.ffn.predictor import Predictor
from petavox.ffn.released import read_released

NAMED = (2, 32, 66, 113, 179)


@pytest.fixture(scope="module")
def published():
    import h5py

    from tests.conftest import data_folder

    folder = data_folder() / "fib25"
    if not (folder / "training_sample2.h5").exists():
        pytest.skip(f"real data not here: {folder} (set PETAVOX_DATA)")
    weights, depth, features = read_released(folder / "released_model/model.ckpt-27465036.index")
    spec = ModelSpec(fov=33, deltas=8, depth=depth, features=features, image_mean=128, image_std=33)
    network = ConvStack(depth, features)
    network.load_state_dict(weights)
    with h5py.File(folder / "training_sample2.h5") as f:
        image = (f["raw"][:].astype(np.float32) - 128) / 33
    with h5py.File(folder / "reference_result.h5") as f:
        result = f["segmentation"][:]
    origins = json.loads((folder / "reference_origins.json").read_text())
    predict = Predictor(Model(spec, network.eval().requires_grad_(False)))
    return image, result, {int(k): v for k, v in origins.items()}, predict, spec


def replay(published, number):
    image, result, origins, predict, spec = published
    canvas = Canvas(image, predict, spec)
    canvas.segmentation[(result > 0) & (result < number)] = 1
    canvas.next_id = number
    growth = canvas.grow(tuple(origins[number]["seed_zyx"]))
    canvas._settle(growth)
    assert growth.fovs == origins[number]["iters"]
    assert ((canvas.segmentation == number) == (result == number)).all()


@pytest.mark.parametrize("number", NAMED)
def test_named_objects_are_exact(published, number):
    replay(published, number)


def short_objects():
    """Every object of the published run with under 40 fields of view, but the named ones."""
    from tests.conftest import data_folder

    file = data_folder() / "fib25" / "reference_origins.json"
    if not file.exists():
        return []
    origins = json.loads(file.read_text())
    return sorted(int(k) for k, v in origins.items() if v["iters"] < 40 and int(k) not in NAMED)


@pytest.mark.slow
def test_every_sixth_short_object_is_exact(published):
    numbers = short_objects()[::6]
    assert len(numbers) >= 15
    for number in numbers:
        replay(published, number)
