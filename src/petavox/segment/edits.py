"""Splits and merges by hand, on the agglomeration graph.

What it is: which edges a split must cut: the weakest set (minimum cut) between what must come
apart; arrays in, a mask out. What it is not: the log of edits (petavox.stages.edit).

A cut needs the objects to be made of several: what one flood made as one object cannot be cut
here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from petavox.errors import BadInput
from petavox.segment.agglomeration import final_of

_UNIT = 1000  # capacities are whole numbers; odds are told apart to a thousandth
_MOST = 1000 * _UNIT  # of one edge: evidence beyond odds of 1000 : 1 is no stronger
_LIMIT = 2**30 - 1  # of edges between two nodes: twice as much must fit into 32 bits


def min_cut(
    a: np.ndarray,
    b: np.ndarray,
    strength: np.ndarray,
    these: Sequence[int],
    those: Sequence[int],
) -> np.ndarray:
    """The edges to cut so that no id of `these` hangs together with one of `those`; (n,) bool.

    a, b: (n,) uint64, the edges of the graph.  strength: (n,), odds; the cut has the smallest sum
    (of equal ones, the one nearest to `these`).
    What must stay on a side is one node of the graph that is cut, so that no capacity stands for
    it. Raises BadInput if the two share an id, or are apart already.
    """
    these, those = sorted(set(map(int, these))), sorted(set(map(int, those)))
    both = set(these) & set(those)
    if both or not these or not those:
        raise BadInput(f"the two sides of a split share the object {sorted(both)}; name others.")
    wanted = np.array(these + those, np.uint64)
    roots = final_of(wanted, a, b)
    if not np.isin(roots[: len(these)], roots[len(these) :]).any():
        raise BadInput(f"{these} and {those} are in different objects already: nothing to split.")
    component = final_of(a, a, b)
    mine = np.isin(component, roots)
    ids, place = np.unique(np.concatenate([a[mine], b[mine], wanted]), return_inverse=True)
    count = int(mine.sum())
    at_a, at_b = place[:count], place[count : 2 * count]
    side = place[2 * count :]
    source, sink = int(side[0]), int(side[-1])
    node = np.arange(len(ids))
    node[side[: len(these)]], node[side[len(these) :]] = source, sink
    at_a, at_b = node[at_a], node[at_b]
    graph = _capacities(at_a, at_b, strength[mine], len(ids))
    flow = maximum_flow(graph, source, sink)
    reached = _reached((graph - flow.flow).tocsr(), source)
    if reached[sink]:
        raise BadInput(f"no set of pairs parts {these} from {those}; split them in two steps.")
    out = np.zeros(len(a), bool)
    out[np.flatnonzero(mine)] = reached[at_a] != reached[at_b]
    return out


def _capacities(a: np.ndarray, b: np.ndarray, strength: np.ndarray, nodes: int) -> coo_array:
    """The graph of maximum_flow, both ways; edges within one node are left out."""
    between = a != b
    a, b = a[between], b[between]
    values = np.clip(np.round(strength[between] * _UNIT), 1, _MOST).astype(np.int64)
    both = (np.concatenate([values, values]), (np.concatenate([a, b]), np.concatenate([b, a])))
    graph = coo_array(both, shape=(nodes, nodes)).tocsr()
    graph.sum_duplicates()
    if (most := int(graph.data.max(initial=0))) > _LIMIT:
        # rounding down keeps the order of sums, to the parts that 32 bits tell apart
        graph.data = np.maximum(graph.data * _LIMIT // most, 1)
    graph.data = graph.data.astype(np.int32)
    return graph


def _reached(rest: coo_array, source: int) -> np.ndarray:
    """Nodes that still can be reached with the capacity that is left."""
    rest.data = (rest.data > 0).astype(np.int8)
    rest.eliminate_zeros()
    seen = np.zeros(rest.shape[0], bool)
    seen[source] = True
    waiting = [source]
    while waiting:
        node = waiting.pop()
        for other in rest.indices[rest.indptr[node] : rest.indptr[node + 1]]:
            if not seen[other]:
                seen[other] = True
                waiting.append(int(other))
    return seen
