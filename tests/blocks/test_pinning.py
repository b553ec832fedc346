"""Pinning: the environment of a worker from its rank, for both kinds of accelerator."""

from __future__ import annotations

import pytest

from petavox.blocks.pinning import environment
from petavox.errors import BadInput


def masks(variable: str, n: int, **how) -> list[str]:
    return [environment(r, **how)[variable] for r in range(n)]


def test_two_processes_share_each_nvidia_gpu():
    how = {"kind": "cuda", "devices": 4, "per_device": 2}
    assert masks("CUDA_VISIBLE_DEVICES", 8, **how) == ["0", "0", "1", "1", "2", "2", "3", "3"]


def test_two_processes_share_each_intel_tile_and_half_its_engines():
    how = {"kind": "xpu", "devices": 12, "per_device": 2}
    assert masks("ZE_AFFINITY_MASK", 24, **how) == [str(r // 2) for r in range(24)]
    one = environment(5, **how)
    assert one["ZEX_NUMBER_OF_CCS"] == "0:2"
    assert one["ZE_FLAT_DEVICE_HIERARCHY"] == "FLAT"
    assert "CUDA_VISIBLE_DEVICES" not in one


def test_one_process_a_tile_takes_all_its_engines():
    how = {"kind": "xpu", "devices": 12}
    assert masks("ZE_AFFINITY_MASK", 12, **how) == [str(r) for r in range(12)]
    assert "ZEX_NUMBER_OF_CCS" not in environment(0, **how)


def test_devices_that_the_scheduler_gave_are_the_ones_used():
    outer = {"CUDA_VISIBLE_DEVICES": "2, GPU-abc"}
    how = {"kind": "cuda", "devices": 4, "per_device": 2, "outer": outer}
    assert masks("CUDA_VISIBLE_DEVICES", 4, **how) == ["2", "2", "GPU-abc", "GPU-abc"]


def test_a_worker_without_a_device_is_refused():
    with pytest.raises(BadInput, match="worker 4 has no cuda device"):
        environment(4, kind="cuda", devices=2, per_device=2)


def test_without_accelerators_only_threads_are_set():
    assert environment(3, threads=8) == {
        "OMP_NUM_THREADS": "8",
        "MKL_NUM_THREADS": "8",
        "OPENBLAS_NUM_THREADS": "8",
    }


def test_an_unknown_kind_is_refused():
    with pytest.raises(BadInput, match="'tpu' is not one of"):
        environment(0, kind="tpu")
