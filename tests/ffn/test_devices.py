import pytest
import torch

from petavox.errors import BadInput, MissingDevice
from petavox.ffn.devices import device_of, fastest_precision, step_seconds
from petavox.ffn.predictor import Predictor
from tests.ffn.brightness import brightness_model


def test_the_cpu_is_always_there():
    assert device_of("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "xpu", "mps"])
def test_an_absent_device_is_an_error_never_the_cpu(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(MissingDevice, match=f"'{name}' was asked for"):
        device_of(name)


def test_a_device_beyond_the_last_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("cuda:1") == torch.device("cuda:1")
    with pytest.raises(MissingDevice, match="only 2"):
        device_of("cuda:2")


def test_auto_takes_the_best_present(monkeypatch):
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == torch.device("xpu")


@pytest.mark.parametrize("name", ["abacus", "cpu:x", ""])
def test_an_unknown_device_is_named(name):
    with pytest.raises(BadInput):
        device_of(name)


@pytest.mark.parametrize(("bf16", "chosen"), [(0.5, "bf16"), (0.9, "f32"), (2.0, "f32")])
def test_bf16_is_taken_only_where_it_is_clearly_faster(monkeypatch, bf16, chosen):
    seconds = {"f32": 1.0, "bf16": bf16}
    monkeypatch.setattr("petavox.ffn.devices.step_seconds", lambda p: seconds[p.precision])
    monkeypatch.setattr("petavox.ffn.devices.multiplies_bf16", lambda device: True)
    assert fastest_precision(brightness_model(), torch.device("cpu")) == chosen


def test_bf16_is_not_even_measured_on_a_processor_without_it(monkeypatch):
    monkeypatch.setattr("petavox.ffn.devices.step_seconds", lambda p: pytest.fail("it was"))
    monkeypatch.setattr("petavox.ffn.devices.multiplies_bf16", lambda device: False)
    assert fastest_precision(brightness_model(), torch.device("cpu")) == "f32"


def test_a_step_takes_time():
    assert step_seconds(Predictor(brightness_model()), steps=2) > 0
