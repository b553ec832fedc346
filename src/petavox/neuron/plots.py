"""Pictures of a connectome: ordered adjacency, degrees, sizes.

What it is: PNG bytes from tables, drawn by matplotlib (extra `plots`). What it is not: statistics.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse
from scipy.sparse import csgraph

from petavox.errors import MissingExtra


def pictures(neurons: pa.Table, synapses: pa.Table, edges: pa.Table) -> dict[str, bytes]:
    """adjacency.png, degrees.png, sizes.png. Raises MissingExtra without matplotlib."""
    figures = require()
    return {
        "adjacency.png": _adjacency(figures, edges),
        "degrees.png": _degrees(figures, edges),
        "sizes.png": _sizes(figures, neurons, synapses),
    }


def ordered(edges: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the neurons with edges in an order that keeps partners close, and their matrix.

    Reverse Cuthill-McKee (1969) on the symmetric graph. The matrix counts synapses, pre by post.
    """
    pre, post = edges["pre"].to_numpy(), edges["post"].to_numpy()
    ids, number = np.unique(np.concatenate([pre, post]), return_inverse=True)
    a, b = number[: len(pre)], number[len(pre) :]
    matrix = sparse.csr_array(
        (edges["count"].to_numpy().astype(float), (a, b)), shape=(len(ids), len(ids))
    )
    order = csgraph.reverse_cuthill_mckee(sparse.csr_matrix(matrix + matrix.T), symmetric_mode=True)
    return ids[order], matrix[order][:, order].toarray()


def _adjacency(figures: Any, edges: pa.Table, most: int = 2000) -> bytes:
    """The most connected neurons where there are too many for a picture."""
    if edges.num_rows:
        pre, post = edges["pre"].to_numpy(), edges["post"].to_numpy()
        ids, degree = np.unique(np.concatenate([pre, post]), return_counts=True)
        if len(ids) > most:
            top = np.sort(ids[np.argsort(-degree, kind="stable")[:most]])
            edges = edges.filter(pa.array(np.isin(pre, top) & np.isin(post, top)))
        _, matrix = ordered(edges)
    else:
        matrix = np.zeros((1, 1))
    figure = figures.Figure(figsize=(7, 6))
    axes = figure.add_subplot()
    shown = axes.imshow(np.log1p(matrix), cmap="magma", interpolation="nearest")
    axes.set_xlabel("post (ordered)")
    axes.set_ylabel("pre (ordered)")
    axes.set_title(f"{len(matrix)} neurons, {edges.num_rows} edges")
    figure.colorbar(shown, label="log(1 + synapses)")
    return _png(figure)


def _degrees(figures: Any, edges: pa.Table) -> bytes:
    figure = figures.Figure(figsize=(7, 4))
    axes = figure.add_subplot()
    for side, label in (("pre", "out"), ("post", "in")):
        _, count = np.unique(edges[side].to_numpy(), return_counts=True)
        value, times = np.unique(count, return_counts=True)
        axes.loglog(value, times, "o", ms=4, label=f"{label}-degree")
    axes.set_xlabel("partners")
    axes.set_ylabel("neurons")
    axes.legend()
    return _png(figure)


def _sizes(figures: Any, neurons: pa.Table, synapses: pa.Table) -> bytes:
    figure = figures.Figure(figsize=(9, 4))
    volume = neurons["volume_nm3"].drop_null().to_numpy() / 1e9
    size = synapses["size"].drop_null().to_numpy()
    for k, (values, name) in enumerate(((volume, "neuron volume (µm³)"), (size, "synapse size"))):
        axes = figure.add_subplot(1, 2, k + 1)
        values = values[values > 0]
        if len(values):
            low, high = values.min(), max(values.max(), values.min() * 1.01)
            axes.hist(values, np.geomspace(low, high, 40))
            axes.set_xscale("log")
        axes.set_xlabel(name)
    return _png(figure)


def require() -> Any:
    """matplotlib's figures, or MissingExtra with the way to install them."""
    try:
        from matplotlib import figure
    except ImportError:
        raise MissingExtra(
            "plots need matplotlib, which is not installed: pip install 'petavox[plots]', or "
            "leave --plots away."
        ) from None
    return figure


def _png(figure: Any) -> bytes:
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
