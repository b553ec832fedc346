"""`petavox agglomerate` on tissue where bright means connected, with a network that knows that.

Two bright tubes lie in the dark, each cut into pieces by hand; the pieces of one tube are one.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from petavox import volume
from petavox.blocks import Ledger, open_engine
from petavox.cli.app import app
from petavox.errors import BadInput, WorkFailed
from petavox.ffn.flood import normalised
from petavox.ffn.model import save_model
from petavox.ffn.network import ConvStack
from petavox.segment.rule import Rule
from petavox.space import Box
from petavox.stages import agglomerate as stage
from petavox.stages import candidates as asking
from petavox.stages.agglomerate import AgglomerateSettings, agglomerate
from petavox.stages.calibrate import CalibrateSettings, calibrated, calibrated_prior
from petavox.stages.candidates import CandidateSettings
from petavox.stages.pair_scores import ResegmentBlockSettings, ScorePairs
from petavox.volume.opening import create, finish
from tests.ffn.brightness import brightness_spec, brightness_weights
from tests.stages.changed_code import requires_again

START = (-4, 3, 0)
SHAPE = (42, 42, 24)
TRUTH = {1: 6, 2: 26}
"""First y of each tube; they run along z, from x 7 on, 11 x 11 voxels in section."""


def stored(path, values, kind, start=START, voxel_size=(8, 8, 8)):
    made = create(
        path,
        box=Box.of_shape(values.shape, start),
        voxel_size=voxel_size,
        dtype=values.dtype,
        kind=kind,
        chunk=(8, 8, 8),
        shard=(16, 16, 16),
    )
    made.write(made.box, values)
    finish(made, {})
    return path


def tissue():
    """Image, truth, and the truth's bodies cut along x into pieces 10 b + k."""
    truth = np.zeros(SHAPE, np.uint64)
    for body, y in TRUTH.items():
        truth[:, y : y + 11, 7:18] = body
    image = np.where(truth > 0, 190, 64).astype(np.uint8)
    piece = np.arange(SHAPE[0], dtype=np.uint64)[:, None, None] // np.uint64(14)
    return image, truth, np.where(truth > 0, 10 * truth + piece, 0).astype(np.uint64)


@pytest.fixture
def here(tmp_path):
    image, truth, labels = tissue()
    stored(tmp_path / "image", image, "image")
    stored(tmp_path / "truth", truth, "labels")
    stored(tmp_path / "labels", labels, "labels")
    save_model(tmp_path / "m.safetensors", brightness_spec(), brightness_weights())
    return tmp_path


WIDE = {
    "box_radius": (112, 112, 112),
    "analysis_radius": (72, 72, 72),
    "exclusion_radius": (16, 16, 16),
    "tries": 8,
}
"""The tubes are thicker than the hand-made field of view: a smaller box would say nothing."""


def settings_of(rule=None, **candidates):
    given = {"block": (16, 16, 16), "max_distance": 88, "min_faces": 4} | candidates
    return AgglomerateSettings(
        candidates=CandidateSettings(**given), rule=rule or LOOSE, resegment=WIDE
    )


LOOSE = Rule(iou=0.5, consistency=0.3, guard=1)
"""The hand-made network leaves the edges of tubes out, so shares are below what a net gives."""


def go(here, name="out", settings=None, engine=None, **options):
    with Ledger(here / f"{name}.run" / "ledger.db") as ledger:
        return agglomerate(
            here / "labels",
            here / "image",
            here / name,
            model=here / "m.safetensors",
            ledger=ledger,
            settings=settings or settings_of(),
            engine=engine,
            quiet=True,
            **options,
        )


def table(here, name="out", file="edges"):
    return pq.read_table(here / f"{name}.graph" / f"{file}.parquet").to_pylist()


def test_pieces_of_one_tube_become_one_and_tubes_stay_apart(here):
    figures = go(here)
    truth = volume.open(here / "truth").read()
    out = volume.open(here / "out")
    expected = np.where(truth > 0, 10 * truth, 0)  # the smallest member's id
    assert np.array_equal(out.read(), expected)
    assert out.box == Box.of_shape(SHAPE, START)
    edges = table(here)
    true = [e["a"] // 10 == e["b"] // 10 for e in edges]
    assert [e["decision"] == "accepted" for e in edges] == true
    assert (sum(true), len(edges)) == (4, 7)
    assert figures["objects_before"] == 6
    assert figures["objects"] == 2
    assert figures["accepted"] == 4
    assert figures["pairs"] == len(edges)
    assert figures["fovs"] == sum(e["fovs"] for e in edges) > 0


def test_decision_points_lie_between_the_two_objects(here):
    go(here, settings=settings_of(block=(48, 48, 48)))
    edges = {(e["a"], e["b"]): e for e in table(here)}
    touching, apart = edges[10, 11], edges[10, 20]
    # the cut is between z 13 and 14 of the array; the middle of the section is y 11, x 12
    assert [touching[k] for k in "zyx"] == [13 + START[0], 11 + START[1], 12]
    assert [touching[f"{k}_nm"] for k in "zyx"] == [9.5 * 8, 14.5 * 8, 12.5 * 8]
    assert (touching["distance_nm"], touching["size_a"]) == (0, 11 * 11 * 14)
    # nine dark voxels lie between the tubes: 4 grew from one side and 5 from the other
    assert apart["distance_nm"] == (4 + 5) / 2 * 8
    assert 17 <= apart["y"] - START[1] <= 25


def graph_bytes(here, name):
    return (here / f"{name}.graph" / "edges.parquet").read_bytes()


def test_the_order_of_blocks_does_not_matter(here):
    go(here)
    go(here, "shuffled", shuffle=5)
    assert graph_bytes(here, "out") == graph_bytes(here, "shuffled")


@pytest.mark.slow
def test_the_number_of_workers_does_not_matter(here):
    go(here)
    with open_engine(workers=2) as engine:
        go(here, "two", engine=engine)
    assert graph_bytes(here, "out") == graph_bytes(here, "two")


def test_another_threshold_floods_nothing_again(here, monkeypatch):
    go(here)

    def never(*_, **__):
        raise AssertionError("flooded again")

    monkeypatch.setattr("petavox.stages.pair_scores.resegment", never)
    figures = go(here, settings=settings_of(LOOSE.model_copy(update={"odds": 50.0})))
    assert "accepted" not in figures
    assert np.array_equal(volume.open(here / "out").read(), volume.open(here / "labels").read())
    figures = go(here)
    assert figures["accepted"] == 4


def test_other_code_decides_again(here, monkeypatch):
    for module in ("agglomeration", "contraction", "rule", "features", "places", "unionfind"):
        source = f"petavox.segment.{module}"
        if module in ("rule", "features", "places"):
            requires_again(monkeypatch, source, asking, "known_of", lambda: go(here))
        else:
            requires_again(monkeypatch, source, stage, "decided", lambda: go(here))
    requires_again(monkeypatch, "petavox.segment.prior", asking, "known_of", lambda: go(here))
    requires_again(monkeypatch, "petavox.stages.relabel", stage, "write_lookup", lambda: go(here))


def test_pairs_are_scored_again_when_images_are_normalised_otherwise():
    score = ScorePairs(ResegmentBlockSettings(), reads={}, writes={})
    assert normalised.__module__ in score.code


def test_objects_of_many_blocks_add_up_without_a_merging_for_each(monkeypatch):
    """Each object lies in two blocks; 2, 4 voxels and grey values of 10."""
    pieces = [
        {
            "id": np.array([k, k + 1], np.uint64),
            "voxels": np.array([1, 3]),
            "gray": np.full(2, 20.0),
        }
        for k in range(1, 201)
    ]
    monkeypatch.setattr(asking.tables, "parts", lambda *_: iter(pieces))
    added, calls = asking._added, []
    monkeypatch.setattr(asking, "_added", lambda found: calls.append(found) or added(found))
    ids, voxels, gray = asking.objects("none", len(pieces))
    assert ids.tolist() == list(range(1, 202))
    assert voxels.tolist() == [1] + [4] * 199 + [3]
    assert gray.tolist() == [20] + [10] * 199 + [pytest.approx(20 / 3)]
    assert len(calls) == 1


def test_the_network_may_judge_in_int8(here):
    exact, rounded = go(here), go(here, "rounded", settings=in_int8(), shuffle=5)
    assert (rounded["accepted"], rounded["objects"]) == (exact["accepted"], exact["objects"])
    assert np.array_equal(volume.open(here / "out").read(), volume.open(here / "rounded").read())
    # rounding shows: the scores were not made in float32
    assert graph_bytes(here, "out") != graph_bytes(here, "rounded")


def in_int8():
    return settings_of().model_copy(update={"precision": "int8"})


def test_a_network_that_int8_does_not_know_is_refused_before_work(here):
    spec = brightness_spec(norm="layer")
    weights = ConvStack(2, 4, "layer").state_dict()
    save_model(here / "m.safetensors", spec, weights)
    with pytest.raises(BadInput, match="int8 knows no norm"):
        go(here, settings=in_int8())
    assert not (here / "out.candidates").exists()


def test_each_step_says_what_it_cost(here):
    figures = go(here)
    steps = ("agglomerate_candidates", "agglomerate_scores", "relabel")
    assert all(figures[f"{step}_seconds"] > 0 for step in steps)
    per_pair = figures["agglomerate_scores_seconds"] / figures["asked"]
    assert figures["seconds_per_pair_asked"] == pytest.approx(per_pair, abs=0.002)
    # what was kept cost what it did
    assert go(here)["agglomerate_scores_seconds"] == figures["agglomerate_scores_seconds"]


def test_an_interrupted_run_goes_on_with_the_pairs_that_are_left(here, monkeypatch):
    from petavox.stages import pair_scores as stage

    done = []
    real = stage.resegment

    def failing(*arguments, **others):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(arguments[2:4])
        return real(*arguments, **others)

    monkeypatch.setattr(stage, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(stage, "resegment", failing)
    with pytest.raises(KeyboardInterrupt):
        go(here, settings=settings_of(block=(48, 48, 48)))
    assert not (here / "out").exists()
    again = []

    def counting(*arguments, **others):
        again.append(arguments[2:4])
        return real(*arguments, **others)

    monkeypatch.setattr(stage, "resegment", counting)
    figures = go(here, settings=settings_of(block=(48, 48, 48)))
    assert len(again) == figures["pairs"] - 4
    assert not set(again) & set(done)
    assert figures["fovs"] == sum(e["fovs"] for e in table(here))
    monkeypatch.setattr(stage, "resegment", real)
    go(here, "whole", settings=settings_of(block=(48, 48, 48)))
    assert graph_bytes(here, "out") == graph_bytes(here, "whole")


def test_a_rule_is_fitted_on_truth_and_kept(here):
    def fit(edges):
        return calibrated(here / "labels", here / "truth", edges, CalibrateSettings(folds=2))

    figures = go(here, calibrate=fit)
    assert figures["rule"] == "logistic"
    assert figures["vi_bits_cross_validated"] <= figures["vi_bits_unmerged"]
    assert np.array_equal(
        volume.open(here / "out").read() // 10, volume.open(here / "truth").read()
    )
    rule = Rule.model_validate_json((here / "out.graph" / "rule.json").read_text())
    assert rule.kind == "logistic"
    assert rule.fitted["truth"] == str(here / "truth")


def test_the_network_is_asked_only_where_a_prior_leaves_a_chance(here):
    def fit(edges):
        return calibrated_prior(here / "labels", here / "truth", edges, CalibrateSettings())

    go(here, calibrate_prior=fit)
    prior = Rule.model_validate_json((here / "out.graph" / "prior.json").read_text())
    assert prior.fitted["true_pairs"] == 4
    figures = go(here, "some", settings_of(prior=prior, least_chance=0.5))
    assert (figures["asked"], figures["accepted"], figures["pairs"]) == (4, 4, 7)
    reasons = {e["reason"] for e in table(here, "some") if e["a"] // 10 != e["b"] // 10}
    assert reasons == {"not plausible"}
    figures = go(here, "few", settings_of(prior=prior, most_asked=1))
    assert figures["asked"] == 1


def test_a_pair_with_a_large_contact_is_asked_about_at_several_places(here):
    one = go(here)
    more = {"places": 3, "places_apart": 40.0, "places_faces": 9}
    three = go(here, "three", settings=settings_of(**more), shuffle=3)
    assert (three["pairs"], three["asked"]) == (one["pairs"], one["asked"])
    assert one["places_asked"] == one["asked"] < three["places_asked"]
    assert three["accepted"] == one["accepted"] == 4
    edges = {(e["a"], e["b"]): e for e in table(here, "three")}
    assert sorted(edges) == sorted((e["a"], e["b"]) for e in table(here))
    true = [e for e in edges.values() if e["decision"] == "accepted"]
    assert all(e["places"] == 3 and e["fovs"] > 0 for e in true)
    # without cells in the way the first place is what it was
    first = {(e["a"], e["b"]): (e["z"], e["y"], e["x"]) for e in table(here)}
    kept = [e for e in edges.values() if e["place"] == 0]
    assert kept
    assert all(first[e["a"], e["b"]][2] in (e["x"], e["x"] - 1, e["x"] + 1) for e in kept)


def test_what_a_flood_ran_into_is_known_of_a_pair(here):
    origins = {"10": {"overlaps": {}}, "11": {"overlaps": {"10": 40, "12": 3}}}
    (here / "labels" / "origins.json").write_text(json.dumps({"origins": origins}))
    go(here, settings=settings_of(most_asked=2))
    asked = {(e["a"], e["b"]): e["overlap"] for e in table(here) if e["ask"]}
    assert asked == {(10, 11): 40, (11, 12): 3}
    (here / "labels" / "origins.json").write_text("[]")
    with pytest.raises(BadInput, match=r"origins\.json cannot be used"):
        go(here, "other")


def test_a_prior_that_needs_the_network_is_refused():
    rule = Rule(kind="logistic", features=("iou",), mean=(0,), scale=(1,), weights=(1,))
    with pytest.raises(ValueError, match="only the network says"):
        CandidateSettings(prior=rule)
    with pytest.raises(ValueError, match="logistic"):
        CandidateSettings(prior=Rule())


def test_a_box_of_truth_without_pairs_teaches_nothing(here):
    def fit(edges):
        settings = CalibrateSettings(box="-4:0,3:13,0:4")
        return calibrated(here / "labels", here / "truth", edges, settings)

    with pytest.raises(BadInput, match="no pair of objects"):
        go(here, calibrate=fit)


def test_inputs_that_do_not_fit_are_refused_before_work(here):
    image = volume.open(here / "image").read()
    stored(here / "small", image[:-2], "image")
    stored(here / "coarse", image, "image", voxel_size=(8, 8, 16))
    with Ledger(here / "x.db") as ledger:
        for name in ("small", "coarse"):
            with pytest.raises(BadInput, match="must cover the labels"):
                agglomerate(
                    here / "labels", here / name, here / "o", model=here / "m.safetensors",
                    ledger=ledger, settings=settings_of(), quiet=True,
                )  # fmt: skip
        with pytest.raises(BadInput, match="not an image"):
            agglomerate(
                here / "labels", here / "labels", here / "o", model=here / "m.safetensors",
                ledger=ledger, settings=settings_of(), quiet=True,
            )  # fmt: skip
    assert not (here / "o.candidates").exists()


def test_more_pairs_than_memory_may_hold_is_an_error(here):
    with pytest.raises(BadInput, match="more than max_pairs 2"):
        go(here, settings=settings_of(max_pairs=2))


def test_labels_without_neighbours_stay_as_they_are(here):
    alone = np.zeros(SHAPE, np.uint64)
    alone[3:9, 3:9, 3:9] = 5
    stored(here / "alone", alone, "labels")
    with Ledger(here / "alone.db") as ledger:
        figures = agglomerate(
            here / "alone", here / "image", here / "o", model=here / "m.safetensors",
            ledger=ledger, settings=settings_of(), quiet=True,
        )  # fmt: skip
    assert (figures["pairs"], figures["objects"]) == (0, 1)
    assert np.array_equal(volume.open(here / "o").read(), alone)


def test_damaged_scores_are_named(here):
    go(here)
    part = next((here / "out.scores").glob("*/part-*.parquet"))
    part.write_bytes(b"damaged")
    with pytest.raises(WorkFailed, match="cannot be read"):
        go(here, settings=settings_of(Rule(odds=2)))


def test_the_command(here):
    names = [str(here / n) for n in ("labels", "image", "out")]
    rule = here / "rule.json"
    rule.write_text(LOOSE.model_dump_json())
    (here / "s.yaml").write_text(json.dumps({"resegment": WIDE}))
    options = ["--settings", str(here / "s.yaml"),
               "--model", str(here / "m.safetensors"), "--max-distance", "88", "--min-faces", "4",
               "--block", "16", "16", "16"]  # fmt: skip
    done = CliRunner().invoke(app, ["agglomerate", *names, *options, "--rule", str(rule), "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert figures["objects"] == 2
    both = [*options, "--calibrate", str(here / "truth"), "--odds", "2"]
    refused = CliRunner().invoke(app, ["agglomerate", *names, *both])
    assert refused.exit_code == 2


def test_a_truth_that_can_teach_nothing_is_refused_before_any_work(here):
    stored(here / "coarse", tissue()[1], "labels", voxel_size=(16, 16, 16))
    names = [str(here / n) for n in ("labels", "image", "out")]
    options = ["--model", str(here / "m.safetensors"), "--calibrate"]
    for truth, why in (("coarse", "a truth holds ids at the same voxel size"), ("no", "no volume")):
        done = CliRunner().invoke(app, ["agglomerate", *names, *options, str(here / truth)])
        assert done.exit_code != 0
        assert why in " ".join(done.output.split())
    assert not [p for p in here.iterdir() if p.name.startswith("out")]
