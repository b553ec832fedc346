"""The usual other way, at equal training time: affinities from a 3-D U-Net, then a watershed.

    python -m benchmarks.unet [--seconds 180]

What it is: a small U-Net (three levels, 12 to 48 features, trained with flips and grey jitter) that
says for each voxel whether it belongs with its neighbour along z, y and x; a seeded watershed of
their mean, fragments joined while the mean affinity across their border is at least a threshold
chosen on the training volume. Beside it a flood-filling network of the shipped size trained for
the same processor time. Both learn gala_fib/train and are scored on gala_fib/test.
What it is not: a tuned pipeline of either kind; minutes of training are little for both.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import torch
from scipy import ndimage
from skimage.segmentation import watershed
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.common import data_folder, emit
from benchmarks.shipped_model import scores
from petavox.ffn.devices import Precision
from petavox.ffn.examples import ExampleSettings
from petavox.ffn.flood import flood
from petavox.ffn.growth import FloodSettings
from petavox.ffn.model import load_spec
from petavox.ffn.pieces import Source
from petavox.ffn.predictor import Predictor
from petavox.ffn.shipped import MODEL
from petavox.ffn.trainer import Trainer
from petavox.ffn.trainer_settings import TrainerSettings
from petavox.learn.bf16 import multiplies_bf16
from petavox.space import Box

PATCH = (32, 64, 64)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)
VOXEL = (10.0, 10.0, 10.0)


def volume(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels of gala_fib/NAME."""
    with h5py.File(data_folder() / f"gala_fib/{name}.h5") as f:
        return f["raw"][:], f["labels"][:].astype(np.uint32)


class UNet(nn.Module):
    """Three levels; (n, 1, z, y, x) to three affinities in logits, sides divisible by 4."""

    def __init__(self, features: int = 12) -> None:
        super().__init__()
        widths = [features, 2 * features, 4 * features]
        self.down = nn.ModuleList(
            _block(a, b) for a, b in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            _block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.last = nn.Conv3d(features, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Down, across and up."""
        kept = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool3d(x, 2) if level else x)
            kept.append(x)
        for block, across in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), across], 1))
        out: Tensor = self.last(x)
        return out


def _block(a: int, b: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(a, b, 3, padding=1), nn.ReLU(), nn.Conv3d(b, b, 3, padding=1), nn.ReLU()
    )


def affinities(labels: np.ndarray) -> np.ndarray:
    """(3, z, y, x) float32: 1 where a voxel and the one before it along the axis are one object."""
    out = np.zeros((3, *labels.shape), np.float32)
    for axis in range(3):
        here, before = np.moveaxis(labels, axis, 0)[1:], np.moveaxis(labels, axis, 0)[:-1]
        np.moveaxis(out[axis], axis, 0)[1:] = (here == before) & (here > 0)
    return out


def patches(image: np.ndarray, labels: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """Random patches, flipped and jittered in grey, for ever."""
    rng = np.random.default_rng(0)
    grey = (image.astype(np.float32) - 128) / 33
    while True:
        at = [int(rng.integers(0, n - p + 1)) for n, p in zip(image.shape, PATCH, strict=True)]
        here = tuple(slice(a, a + p) for a, p in zip(at, PATCH, strict=True))
        flip = tuple(slice(None, None, int(rng.choice([-1, 1]))) for _ in range(3))
        x = grey[here][flip] * rng.uniform(0.8, 1.2) + rng.uniform(-0.3, 0.3)
        y = affinities(labels[here][flip])
        yield torch.from_numpy(x.astype(np.float32).copy())[None, None], torch.from_numpy(y)[None]


def trained_unet(image: np.ndarray, labels: np.ndarray, seconds: float) -> tuple[UNet, int]:
    """A U-Net after that many processor seconds, and its steps."""
    torch.manual_seed(0)
    network, steps = UNet(), 0
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    began, source = time.process_time(), patches(image, labels)
    while time.process_time() - began < seconds:
        x, y = next(source)
        loss = functional.binary_cross_entropy_with_logits(network(x), y)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        steps += 1
    return network.eval(), steps


def predicted(network: UNet, image: np.ndarray) -> np.ndarray:
    """Affinities of a volume, (3, z, y, x)."""
    grey = (image.astype(np.float32) - 128) / 33
    pad = [(0, -n % 4) for n in grey.shape]
    with torch.inference_mode():
        x = torch.from_numpy(np.pad(grey, pad, "reflect"))[None, None]
        found = torch.sigmoid(network(x))[0].numpy()
    return found[(slice(None), *(slice(n) for n in image.shape))]


def fragments(affinity: np.ndarray) -> np.ndarray:
    """Watershed of the mean affinity, from the deepest places of what is inside."""
    mean = affinity.mean(0)
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mean > 0.5), 1)
    peaks = (depth == ndimage.maximum_filter(depth, 5)) & (depth > 1)
    markers, _ = ndimage.label(peaks)
    return np.asarray(watershed(1 - mean, markers, mask=mean > 0.3)).astype(np.uint32)


def joined(pieces: np.ndarray, affinity: np.ndarray, threshold: float) -> np.ndarray:
    """Fragments joined where the mean affinity of their common faces reaches the threshold."""
    pairs, values = [], []
    for axis in range(3):
        a = np.moveaxis(pieces, axis, 0)[:-1].ravel().astype(np.int64)
        b = np.moveaxis(pieces, axis, 0)[1:].ravel().astype(np.int64)
        touch = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.stack([np.minimum(a, b), np.maximum(a, b)], 1)[touch])
        values.append(np.moveaxis(affinity[axis], axis, 0)[1:].ravel()[touch])
    faces, place = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)
    place = place.ravel()
    mean = np.bincount(place, np.concatenate(values)) / np.bincount(place)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    kept, n = faces[mean >= threshold], int(pieces.max()) + 1
    graph = coo_array((np.ones(len(kept)), (kept[:, 0], kept[:, 1])), shape=(n, n))
    group = connected_components(graph, directed=False)[1] + 1
    group[0] = 0
    return group[pieces].astype(np.uint32)


def by_unet(seconds: float) -> dict[str, Any]:
    """Train, choose the threshold on the training volume, score on the test volume."""
    image, labels = volume("train")
    network, steps = trained_unet(image, labels, seconds)
    affinity = predicted(network, image)
    pieces = fragments(affinity)
    errors = {t: scores(joined(pieces, affinity, t), labels)["adapted_rand"] for t in THRESHOLDS}
    threshold = min(errors, key=lambda t: errors[t])
    test, truth = volume("test")
    cpu = time.process_time()
    affinity = predicted(network, test)
    found = joined(fragments(affinity), affinity, threshold)
    cpu = time.process_time() - cpu
    return {
        **scores(found, truth),
        "steps": steps,
        "threshold": threshold,
        "parameters": sum(p.numel() for p in network.parameters()),
        "mvoxel_per_cpu_s": round(test.size / 1e6 / cpu, 3),
    }


def by_flood(seconds: float) -> dict[str, Any]:
    """A flood-filling network of the shipped size, trained as long, and its flood."""
    image, labels = volume("train")
    shipped = load_spec(MODEL)
    spec = shipped.model_copy(update={"provenance": {}})
    source = Source(
        "gala_fib/train", Box.of_shape(image.shape),
        lambda b: image[b.slices()], lambda b: labels[b.slices()],
    )  # fmt: skip
    precision: Precision = "bf16" if multiplies_bf16(torch.device("cpu")) else "f32"
    trainer = Trainer(
        spec, [source],
        TrainerSettings(
            batch=4, live=8, steps=10**6, precision=precision, memory_format="channels_last",
            examples=ExampleSettings(min_object_size=1000),
        ),
    )  # fmt: skip
    began, steps = time.process_time(), 0
    while time.process_time() - began < seconds:
        trainer.step()
        steps += 1
    model = trainer.model()
    trainer.close()
    test, truth = volume("test")
    predictor = Predictor(model, precision=precision)
    cpu = time.process_time()
    canvas = flood(
        test, predictor, spec, voxel_size=VOXEL, settings=FloodSettings(min_segment_size=500)
    )
    cpu = time.process_time() - cpu
    return {
        **scores(canvas.labels(), truth),
        "steps": steps,
        "precision": precision,
        "fovs": canvas.counters["fovs"],
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "mvoxel_per_cpu_s": round(test.size / 1e6 / cpu, 4),
    }


def main() -> None:
    """Train and score both, print one line of JSON."""
    options = argparse.ArgumentParser(description="U-Net + watershed beside a flood.")
    options.add_argument("--seconds", type=float, default=180, help="of training, processor time")
    given = options.parse_args()
    emit(
        "unet",
        data="gala_fib",
        training_cpu_seconds=given.seconds,
        unet_watershed=by_unet(given.seconds),
        flood_filling=by_flood(given.seconds),
        load=round(os.getloadavg()[0], 1),
    )


if __name__ == "__main__":
    main()
