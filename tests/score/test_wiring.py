import numpy as np
import pytest

from petavox.score.wiring import SynapseRows, curve, report

BOX = (0, 0, 0), (1000, 1000, 1000)


def rows(*given):
    """(id, x, pre, post); all at z = y = 500."""
    ids, x, pre, post = (np.array(c) for c in zip(*given, strict=True))
    at = np.stack([np.full(len(x), 500.0), np.full(len(x), 500.0), x.astype(float)], 1)
    return SynapseRows(ids.astype(np.uint64), at, pre.astype(np.uint64), post.astype(np.uint64))


TRUTH = rows((1, 300, 7, 8), (1, 300, 7, 9), (2, 600, 7, 8), (3, 980, 5, 6))


def test_all_right():
    found = report(TRUTH, TRUTH, *BOX)
    for name in ("detection_f1", "partner_accuracy", "pre_accuracy", "edge_f1"):
        assert found[name] == 1.0


def test_by_hand():
    # 1 lacks a partner; 2 has the wrong pre; 3 is at the rim and not found; 4 is spurious
    result = rows((10, 310, 7, 8), (20, 590, 4, 8), (40, 800, 1, 2), (50, 10, 1, 3))
    found = report(result, TRUTH, *BOX, within=50)
    assert found["detection_precision"] == pytest.approx(2 / 3)
    assert found["detection_recall"] == 1.0
    assert found["pre_accuracy"] == 0.5
    assert found["partner_precision"] == pytest.approx(1 / 2)
    assert found["partner_recall"] == pytest.approx(1 / 3)
    assert found["partner_accuracy"] == pytest.approx(2 / 5)
    # edges: (7, 8), (4, 8), (1, 2) of which one is among (7, 8), (7, 9)
    assert found["edge_precision"] == pytest.approx(1 / 3)
    assert found["edge_recall"] == pytest.approx(1 / 2)
    # by synapses (7, 8) is there twice
    assert found["edge_by_synapses_recall"] == pytest.approx(1 / 3)


def test_nobody_is_no_partner():
    result = rows((10, 300, 0, 8), (20, 600, 7, 0))
    found = report(result, TRUTH, *BOX)
    assert found["detection_right"] == 2
    assert found["partner_right"] == 0
    assert found["edge_f1"] == 0.0


def test_the_curve():
    found = curve(np.array([0.9, 0.5, 0.8, 0.7]), np.array([True, True, False, True]), 1)
    assert [round(s, 1) for s, _, _ in found] == [0.9, 0.8, 0.7, 0.5]
    assert [p for _, p, _ in found] == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4])
    assert [r for _, _, r in found] == pytest.approx([1 / 4, 1 / 4, 1 / 2, 3 / 4])
