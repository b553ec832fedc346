import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from petavox.errors import BadInput
from petavox.ffn.model import FORMAT, load_model, load_spec, save_model
from petavox.settings import parse
from tests.ffn.brightness import brightness_spec, brightness_weights


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, brightness_spec(voxel_size=(40, 4, 4)), brightness_weights())
    return path


def test_a_model_file_carries_geometry_and_weights(file):
    model = load_model(file)
    assert model.spec == load_spec(file) == brightness_spec(voxel_size=(40, 4, 4))
    for name, tensor in brightness_weights().items():
        assert torch.equal(model.network.state_dict()[name], tensor)
    assert len(model.digest) == 32


def test_two_models_with_other_weights_have_other_digests(file, tmp_path):
    other = tmp_path / "n.safetensors"
    weights = brightness_weights()
    weights["last.bias"] += 1
    save_model(other, brightness_spec(), weights)
    assert load_model(file).digest != load_model(other).digest


@pytest.mark.parametrize("keep", [0, 5, 100, 2000])
def test_a_truncated_file_is_refused(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BadInput, match=str(file)):
        load_model(file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="there is no model file"):
        load_model(tmp_path / "none.safetensors")


def rewritten(file, change_header=None, **tensors):
    header = {"format": FORMAT, "spec": load_spec(file).model_dump_json()}
    weights = load_file(file) | tensors
    weights = {k: v for k, v in weights.items() if v is not None}
    save_file(weights, file, metadata=(change_header or dict)(header))
    return file


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"last.bias": None}, "lacks the weights 'last.bias'"),
        ({"last.bias": torch.zeros(3)}, r"'last.bias' have shape \(3,\)"),
        ({"last.bias": torch.tensor([torch.nan])}, "NaN"),
        ({"more": torch.zeros(1)}, "no place for"),
    ],
)
def test_wrong_weights_are_named(file, tensors, said):
    with pytest.raises(BadInput, match=said):
        load_model(rewritten(file, **tensors))


def test_another_format_is_refused(file):
    with pytest.raises(BadInput, match="no petavox model"):
        load_model(rewritten(file, lambda h: h | {"format": "other"}))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("fov", [8, 9, 9], "must be odd"),
        ("deltas", [5, 2, 2], "must stay inside"),
        ("deltas", [0, 0, 0], "never move"),
        ("image_std", 0, "image_std"),
        ("surprise", 1, "unknown key 'surprise'"),
        ("fov", [9, 9], "three"),
        ("move_threshold", 1.5, "move_threshold"),
    ],
)
def test_impossible_geometry_in_the_header_is_named(file, key, value, said):
    def change(header):
        return header | {"spec": json.dumps(json.loads(header["spec"]) | {key: value})}

    with pytest.raises(BadInput, match=said):
        load_model(rewritten(file, change))


def test_a_field_of_view_may_be_flat_and_anisotropic():
    spec = parse(
        type(brightness_spec()),
        brightness_spec().model_dump() | {"fov": [1, 17, 33], "deltas": [0, 4, 8]},
        "a test",
    )
    assert spec.margin == (0, 8, 16)


def test_nothing_half_written_is_left_behind(tmp_path):
    with pytest.raises(BadInput, match="cannot write the model"):
        save_model("/proc/nowhere/m.safetensors", brightness_spec(), brightness_weights())
    assert list(tmp_path.iterdir()) == []


def test_weights_are_stored_as_float32(tmp_path):
    path = tmp_path / "m.safetensors"
    half = {k: v.to(torch.bfloat16) for k, v in brightness_weights().items()}
    save_model(path, brightness_spec(), half)
    assert {t.dtype for t in load_file(path).values()} == {torch.float32}
    assert np.isfinite(load_file(path)["last.weight"].numpy()).all()
