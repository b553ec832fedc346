"""Runs in an environment of zarr-python or cloud-volume: the volume I/O of benchmarks.volumes.

    python volumes.py zarr|cloudvolume IMAGE.npy LABELS.npy FOLDER

Writes each array in chunks of 64, reads it whole, reads 64^3 at 20 random places; best of three.
zarr: zarr v3, unsharded and sharded (chunks of 64 in shards of 256), default codecs.
cloudvolume: precomputed, image raw and labels compressed_segmentation, gzip, default settings.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np


def best(work, times=3):
    """Seconds of the fastest of a few runs."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def starts(shape):
    """20 random places of a 64^3 cube."""
    rng = np.random.default_rng(0)
    return [tuple(int(rng.integers(0, n - 63)) for n in shape) for _ in range(20)]


def figures(values, write, read, cube):
    """Rates, from functions."""
    seconds = best(write)
    assert np.array_equal(read(), values)
    whole = best(read)
    places = starts(values.shape)
    random = best(lambda: [cube(p) for p in places]) / len(places)
    return {
        "write_mb_per_s": round(values.nbytes / 1e6 / seconds, 1),
        "read_mb_per_s": round(values.nbytes / 1e6 / whole, 1),
        "random_64_cube_ms": round(1e3 * random, 2),
    }


def by_zarr(values, folder, sharded):
    """zarr-python."""
    import zarr

    side = tuple(min(256, n) for n in values.shape)
    shards = tuple(-(-n // 64) * 64 for n in side) if sharded else None

    def write():
        shutil.rmtree(folder, ignore_errors=True)
        array = zarr.create_array(
            str(folder), shape=values.shape, dtype=values.dtype, chunks=(64, 64, 64), shards=shards
        )
        array[:] = values

    def opened():
        return zarr.open_array(str(folder), mode="r")

    return figures(
        values,
        write,
        lambda: opened()[:],
        lambda p: opened()[tuple(slice(a, a + 64) for a in p)],
    )


def by_cloudvolume(values, folder, kind):
    """cloud-volume; its axes are xyz."""
    from cloudvolume import CloudVolume

    path = f"file://{folder}"
    swapped = np.asfortranarray(values.T)

    def write():
        shutil.rmtree(folder, ignore_errors=True)
        info = CloudVolume.create_new_info(
            num_channels=1,
            layer_type="image" if kind == "image" else "segmentation",
            data_type=values.dtype.name,
            encoding="raw" if kind == "image" else "compressed_segmentation",
            resolution=(8, 8, 8),
            voxel_offset=(0, 0, 0),
            chunk_size=(64, 64, 64),
            volume_size=values.shape[::-1],
        )
        volume = CloudVolume(path, info=info, progress=False)
        volume.commit_info()
        volume[:, :, :] = swapped

    def cut(p=(0, 0, 0), side=None):
        volume = CloudVolume(path, progress=False, fill_missing=True)
        z, y, x = (slice(a, a + (side or n)) for a, n in zip(p, values.shape, strict=True))
        return np.asarray(volume[x, y, z])[..., 0].T

    return figures(values, write, cut, lambda p: cut(p, 64))


def main():
    """Figures of both arrays, as one line of JSON."""
    peer, image, labels, room = sys.argv[1:]
    room = Path(room)
    out = {}
    for kind, file in (("image", image), ("labels", labels)):
        values = np.load(file)
        if peer == "zarr":
            for sharded in (False, True):
                name = f"{kind}_sharded" if sharded else kind
                out[name] = by_zarr(values, room / name, sharded)
        else:
            out[kind] = by_cloudvolume(values, room / kind, kind)
    print(json.dumps(out))


main()
