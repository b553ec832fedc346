import json

import pyarrow.parquet as pq
from typer.testing import CliRunner

from petavox.cli.app import app
from petavox.synapse.model import load_model
from petavox.synapse.shipped import MODEL
from tests.synapse.scenes import save_reader, scene
from tests.synapse.test_synapse_stage import write


def petavox(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_from_an_image_to_a_wiring_diagram(tmp_path):
    image, labels, truth = scene()
    write(tmp_path / "image.zarr", image, "image")
    write(tmp_path / "labels.zarr", labels, "labels")
    save_reader(tmp_path / "m.safetensors")
    (tmp_path / "small.yaml").write_text(
        "{min_cleft_nm3: 10000, min_mitochondrion_nm3: 10000, partners: {min_side_nm3: 5000}}"
    )
    out = tmp_path / "synapses"
    done = petavox(
        "synapses", tmp_path / "image.zarr", tmp_path / "labels.zarr", out, "--model",
        tmp_path / "m.safetensors", "--settings", tmp_path / "small.yaml", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["synapses"] == 3
    done = petavox(
        "connectome", tmp_path / "wiring", "--labels", tmp_path / "labels.zarr", "--synapses",
        out / "synapses.parquet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    edges = pq.read_table(tmp_path / "wiring" / "edges.parquet").to_pylist()
    wanted = {(pre, post) for pre, posts in truth for post in posts}
    assert {(e["pre"], e["post"]) for e in edges} == wanted


def test_no_volume_is_a_sentence(tmp_path):
    done = petavox("synapses", tmp_path / "no.zarr", "none", tmp_path / "out")
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_model_is_whole_and_small():
    model = load_model(MODEL)
    assert model.spec.classes == ("cleft", "pre", "post", "mitochondria")
    assert tuple(model.spec.voxel_size or ()) == (10, 10, 10)
    assert MODEL.stat().st_size < 1_000_000
    assert "phantom" in str(model.spec.provenance["settings"]["volumes"])
    assert "/" not in str(model.spec.provenance["settings"]["volumes"])
