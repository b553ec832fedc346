"""The exported graph is ingested as PyChunkedGraph does it, by a reader written for this test.

The reader knows the wire format of protobuf and the messages of pychunkedgraph/io/protobuf; where
the protobuf library is there, it must read the same.
"""

from __future__ import annotations

import json

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
import tensorstore as ts
import yaml
from typer.testing import CliRunner

from petavox import volume
from petavox.cli.app import app
from petavox.errors import AlreadyExists, BadInput
from petavox.stages import edit
from petavox.stages.chunkedgraph import ChunkedGraphSettings, export
from tests.stages.agglomerated_tissue import agglomerated, slabs

CHUNK = (3, 2, 6)
KINDS = {1: "in", 2: "cross", 3: "between"}
COLUMNS = {1: ("p", "<u8"), 2: ("q", "<u8"), 3: ("affinity", "<f4"), 4: ("area", "<u8")}


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return value, at


def fields(data):
    """Field number -> bytes, of a message of fields of bytes."""
    at, out = 0, {}
    while at < len(data):
        key, at = varint(data, at)
        assert key & 7 == 2
        size, at = varint(data, at)
        out[key >> 3], at = data[at : at + size], at + size
    return out


def read_edges(file):
    packed = file.read_bytes()
    assert packed[:4] == b"\x28\xb5\x2f\xfd"
    # the frame says the size of its content: PyChunkedGraph decompresses many at once
    assert packed[4] & 0b11100000
    data = pa.input_stream(file, compression="zstd").read()
    out = {}
    for number, kind in KINDS.items():
        inner = fields(fields(data).get(number, b""))
        out[kind] = {n: np.frombuffer(inner.get(k, b""), t) for k, (n, t) in COLUMNS.items()}
    return out


def read_components(file):
    """Piece -> number of its component."""
    data, at, numbers = fields(file.read_bytes())[1], 0, []
    while at < len(data):
        value, at = varint(data, at)
        numbers.append(value)
    out, n = {}, 0
    while numbers:
        size, *numbers = numbers
        out |= dict.fromkeys(numbers[:size], n)
        numbers, n = numbers[size:], n + 1
    return out


def ingested(folder):
    """Piece -> neuron, and all edges as (kind, p, q, affinity, area)."""
    graph, every = nx.Graph(), []
    for file in sorted((folder / "components").iterdir()):
        coordinate = file.name.removeprefix("components_").removesuffix(".proto")
        component = read_components(file)
        number = [int(n) for n in coordinate.split("_")]
        prefix = 1 << 56 | number[0] << 46 | number[1] << 36 | number[2] << 26
        graph.add_nodes_from(p for p in component if p >> 26 << 26 == prefix)
        edges = folder / "edges" / f"edges_{coordinate}.proto.zst"
        if not edges.exists():
            continue
        for kind, columns in read_edges(edges).items():
            for row in zip(*(columns[n].tolist() for n, _ in COLUMNS.values()), strict=True):
                p, q = row[:2]
                assert p >> 26 << 26 == prefix
                assert (q >> 26 << 26 == prefix) == (kind == "in")
                every.append((kind, *row))
                if kind == "cross" or component[p] == component[q]:
                    graph.add_edge(p, q)
    return {p: n for n, g in enumerate(nx.connected_components(graph)) for p in g}, every


@pytest.fixture
def out(tmp_path):
    return agglomerated(tmp_path)


def go(out, folder, **options):
    return export(out, folder, ChunkedGraphSettings(chunk=CHUNK), quiet=True, **options)


def same_partition(a, b):
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return len(pairs) == len({p for p, _ in pairs}) == len({q for _, q in pairs})


def test_what_is_ingested_is_what_was_agglomerated(out, tmp_path):
    figures = go(out, tmp_path / "g")
    neuron, edges = ingested(tmp_path / "g")
    spec = {"driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": f"{tmp_path / 'g' / 'ws'}/"}}  # fmt: skip
    ws = ts.open(spec).result()[..., 0].transpose([2, 1, 0]).read().result()
    assert set(np.unique(ws).tolist()) == set(neuron)
    got = np.vectorize(neuron.get)(ws)
    assert same_partition(got, volume.open(out).read())
    assert (figures["objects"], figures["neurons"]) == (6, 3)
    # every edge that leaves a chunk is there from both sides
    leaving = {(k, p, q) for k, p, q, *_ in edges if k != "in"}
    assert leaving == {(k, q, p) for k, p, q in leaving}
    assert len({(k, *sorted((p, q))) for k, p, q, *_ in edges if k != "cross"}) == figures["edges"]
    # 4 x 4 faces between two slabs; each pair has the odds' affinity
    table = dict(zip(ws.ravel().tolist(), slabs().ravel().tolist(), strict=True))
    area, affinity = {}, {}
    for kind, p, q, s, n in edges:
        if kind == "cross":
            assert (s, n, table[p]) == (np.inf, 1, table[q])
            continue
        pair = tuple(sorted((table[p], table[q])))
        area[pair] = area.get(pair, 0) + n / (1 if kind == "in" else 2)
        affinity[pair] = s
    assert area == dict.fromkeys([(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)], 16)
    assert affinity[1, 2] == pytest.approx(3 / 4)
    assert affinity[5, 6] == pytest.approx(0.1 / 1.1)


def test_edits_by_hand_count(out, tmp_path):
    edit.merge(out, "1", "6")
    edit.split(out, "4", "5")
    go(out, tmp_path / "g")
    neuron, _ = ingested(tmp_path / "g")
    wanted = np.array([0, 1, 1, 1, 4, 5, 1])[slabs()]
    pieces = volume.open(tmp_path / "g" / "ws").read()
    assert same_partition(np.vectorize(neuron.get)(pieces), wanted)


def test_the_configuration_names_all_that_was_written(out, tmp_path):
    go(out, tmp_path / "g")
    said = yaml.safe_load((tmp_path / "g" / "config.yml").read_text())
    assert said["graph_config"] == {
        "CHUNK_SIZE": [6, 2, 3], "FANOUT": 2, "LAYER_ID_BITS": 8, "SPATIAL_BITS": 10,
    }  # fmt: skip
    for key in ("EDGES", "COMPONENTS", "WATERSHED"):
        assert (tmp_path / "g").as_posix() in said["data_source"][key]
    info = json.loads((tmp_path / "g" / "ws" / "info").read_text())
    assert (info["data_type"], info["type"]) == ("uint64", "segmentation")
    assert info["scales"][0]["voxel_offset"] == [0, 0, -2]


def test_the_protobuf_library_reads_the_same(out, tmp_path):
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="e.proto", package="e", syntax="proto3")
    inner, outer = (
        file.message_type.add(name="EdgesMsg"),
        file.message_type.add(name="ChunkEdgesMsg"),
    )
    for k, name in enumerate(("node_ids1", "node_ids2", "affinities", "areas"), 1):
        inner.field.add(name=name, number=k, type=12, label=1)
    for k, name in enumerate(("in_chunk", "cross_chunk", "between_chunk"), 1):
        outer.field.add(name=name, number=k, type=11, label=1, type_name=".e.EdgesMsg")
    parts = file.message_type.add(name="ChunkComponentsMsg")
    parts.field.add(name="components", number=1, type=4, label=3)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    edges, components = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"e.{n}"))
        for n in ("ChunkEdgesMsg", "ChunkComponentsMsg")
    )
    go(out, tmp_path / "g")
    for path in (tmp_path / "g" / "edges").iterdir():
        message = edges()
        message.ParseFromString(pa.input_stream(path, compression="zstd").read())
        for kind, columns in read_edges(path).items():
            said = getattr(message, f"{kind}_chunk")
            assert said.node_ids1 == columns["p"].tobytes()
            assert said.areas == columns["area"].tobytes()
    for path in (tmp_path / "g" / "components").iterdir():
        message = components()
        message.ParseFromString(path.read_bytes())
        assert set(read_components(path)) <= set(message.components)


def test_the_command(out, tmp_path):
    words = ["export", str(out), str(tmp_path / "g"), "--format", "pychunkedgraph", "--json"]
    done = CliRunner().invoke(app, [*words, "--chunk", *map(str, CHUNK)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.strip().splitlines()[-1])["neurons"] == 3
    assert CliRunner().invoke(app, [*words, "--box", "0:1,0:1,0:1", "--overwrite"]).exit_code == 2
    with pytest.raises(AlreadyExists):
        go(out, tmp_path / "g")
    with pytest.raises(BadInput, match="no agglomeration graph"):
        export(tmp_path / "labels", tmp_path / "h")
