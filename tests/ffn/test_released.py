import struct

import numpy as np
import pytest
import torch

from petavox.errors import BadInput
from petavox.ffn import tensorflow_checkpoint as tf
from petavox.ffn.released import read_released

LAYERS = ["conv0_a", "conv0_b", "conv1_a", "conv1_b", "conv_lom"]


def arrays(features=3, seed=0):
    rng = np.random.default_rng(seed)
    out = {"global_step": np.array(7, np.int32)}
    for name in LAYERS:
        k = 1 if name == "conv_lom" else 3
        shape = (k, k, k, 2 if name == "conv0_a" else features, 1 if k == 1 else features)
        out[f"seed_update/{name}/weights"] = rng.normal(size=shape).astype(np.float32)
        out[f"seed_update/{name}/biases"] = rng.normal(size=shape[-1]).astype(np.float32)
    return out


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def block(entries):
    body = b"".join(
        varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in entries
    ) + struct.pack("<II", 0, 1)  # fmt: skip
    return body + b"\0" + struct.pack("<I", tf._masked_crc32c(body + b"\0"))


def checkpoint(folder, tensors):
    """A checkpoint written by hand, after the published format."""
    codes = {np.dtype(np.float32): 1, np.dtype(np.int32): 3}
    data, entries = b"", [(b"", b"\x08\x01")]
    for name in sorted(tensors):
        a, raw = tensors[name], tensors[name].tobytes()
        dims = b"".join(b"\x12" + varint(1 + len(varint(n))) + b"\x08" + varint(n) for n in a.shape)
        value = b"\x08" + varint(codes[a.dtype]) + b"\x12" + varint(len(dims)) + dims
        value += b"\x20" + varint(len(data)) + b"\x28" + varint(len(raw))
        value += b"\x35" + struct.pack("<I", tf._masked_crc32c(raw))
        entries.append((name.encode(), value))
        data += raw
    first = block(entries)
    empty = block([])
    index_at = len(first) + len(empty)
    index = block([(b"~", varint(0) + varint(len(first) - 5))])
    handles = (
        varint(len(first)) + varint(len(empty) - 5) + varint(index_at) + varint(len(index) - 5)
    )
    footer = handles.ljust(40, b"\0") + struct.pack("<Q", tf._MAGIC)
    (folder / "m.index").write_bytes(first + empty + index + footer)
    (folder / "m.data-00000-of-00001").write_bytes(data)
    return folder / "m.index"


def test_the_checksum_is_the_published_crc32c():
    # the check value of CRC-32C, masked as LevelDB masks it
    crc = 0xE3069283
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert tf._masked_crc32c(b"123456789") == masked


def test_a_checkpoint_gives_its_tensors_in_our_order(tmp_path):
    theirs = arrays()
    ours, depth, features = read_released(checkpoint(tmp_path, theirs))
    assert (depth, features) == (2, 3)
    kernel = theirs["seed_update/conv1_b/weights"]
    assert ours["residual.0.second.weight"][2, 1, 0, 1, 2] == kernel[0, 1, 2, 1, 2]
    assert ours["last.weight"].shape == (1, 3, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1_a/weights", (5, 5, 5, 3, 3)),
        ("conv_lom/weights", (1, 1, 1, 3, 2)),
        ("conv0_a/weights", (3, 3, 3, 1, 3)),
        ("conv1_b/biases", (4,)),
        ("conv0_a/biases", ()),
    ],
)
def test_networks_of_another_shape_are_refused(name, shape, tmp_path):
    wrong = arrays() | {f"seed_update/{name}": np.zeros(shape, np.float32)}
    with pytest.raises(BadInput, match="not a convolution stack"):
        read_released(checkpoint(tmp_path, wrong))


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    wrong = arrays()
    wrong["seed_update/conv1_a/weights"][0] = np.nan
    with pytest.raises(BadInput, match="NaN"):
        read_released(checkpoint(tmp_path, wrong))


def test_a_size_beyond_all_numbers_is_refused(tmp_path):
    # a header that claims 2^65 voxels, with a checksum that fits
    dims = b"\x08" + varint(2**65)
    value = b"\x08\x01\x12" + varint(2 + len(dims)) + b"\x12" + varint(len(dims)) + dims
    index = checkpoint(tmp_path, {})
    first, empty = block([(b"", b"\x08\x01"), (b"a", value)]), block([])
    at = len(first) + len(empty)
    top = block([(b"~", varint(0) + varint(len(first) - 5))])
    handles = varint(len(first)) + varint(len(empty) - 5) + varint(at) + varint(len(top) - 5)
    index.write_bytes(first + empty + top + handles.ljust(40, b"\0") + struct.pack("<Q", tf._MAGIC))
    with pytest.raises(BadInput, match="damaged"):
        tf.read_checkpoint(index)


def test_an_npz_gives_the_same(tmp_path):
    theirs = arrays()
    np.savez(tmp_path / "m.npz", **{k.replace("/", "__"): v for k, v in theirs.items()})
    a, b = read_released(tmp_path / "m.npz")[0], read_released(checkpoint(tmp_path, theirs))[0]
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_released_checkpoint_and_npz_hold_the_same_weights(real_data):
    a, depth, _ = read_released(real_data("fib25/released_model/model.ckpt-27465036.index"))
    b, _, _ = read_released(real_data("fib25/released_model/fib25_convstack3d_weights.npz"))
    assert depth == 12
    assert all(torch.equal(a[k], b[k]) for k in b)


def test_a_truncated_data_file_is_named(tmp_path):
    index = checkpoint(tmp_path, arrays())
    data = tmp_path / "m.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(BadInput, match="truncated"):
        read_released(index)


def test_a_missing_data_file_is_named(tmp_path):
    index = checkpoint(tmp_path, arrays())
    (tmp_path / "m.data-00000-of-00001").unlink()
    with pytest.raises(BadInput, match="data-00000-of-00001, which is not there"):
        read_released(index)


@pytest.mark.parametrize("which", ["index", "data-00000-of-00001"])
def test_any_flipped_byte_is_found(tmp_path, which):
    """Every byte counts: a damaged checkpoint is refused, or says exactly what it said before."""
    index = checkpoint(tmp_path, arrays())
    before = read_released(index)[0]
    file = tmp_path / f"m.{which}"
    good, refused = file.read_bytes(), 0
    places = range(0, len(good), max(1, len(good) // 150))
    for at in places:
        file.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        try:
            after = read_released(index)[0]
            assert all(torch.equal(after[k], before[k]) for k in before)
        except BadInput:
            refused += 1
    assert refused > 0.6 * len(places)  # the rest fell into bookkeeping that is not read


@pytest.mark.parametrize("keep", [0, 10, 47, 60, 400])
def test_a_truncated_index_is_refused(tmp_path, keep):
    index = checkpoint(tmp_path, arrays())
    index.write_bytes(index.read_bytes()[:keep])
    with pytest.raises(BadInput, match="damaged"):
        read_released(index)


def test_another_architecture_is_refused(tmp_path):
    theirs = arrays()
    del theirs["seed_update/conv1_b/weights"], theirs["seed_update/conv1_b/biases"]
    np.savez(tmp_path / "m.npz", **{k.replace("/", "__"): v for k, v in theirs.items()})
    with pytest.raises(BadInput, match="not a convolution stack"):
        read_released(tmp_path / "m.npz")


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "m.npz", seed_update__conv0_a__weights=np.array([{}], object))
    with pytest.raises(BadInput, match="not a readable"):
        read_released(tmp_path / "m.npz")
