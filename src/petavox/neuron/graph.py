"""The graph of a connectome in files of other programs: GraphML, and an edge list.

What it is: writers of text, node by node. GraphML opens in networkx, igraph, Gephi and Cytoscape.
What it is not: graph algorithms.
"""

from __future__ import annotations

import csv
import io

import pyarrow as pa

_TYPES = {"uint64": "long", "double": "double"}


def graphml(neurons: pa.Table, edges: pa.Table) -> str:
    """GraphML, directed; neurons' columns become node attributes, count and total_size the edges'.

    Null attributes are left out. Node ids are the neurons' ids.
    """
    out = io.StringIO()
    out.write(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
    )
    nodes = [f for f in neurons.schema if f.name != "id"]
    ties = [f for f in edges.schema if f.name not in ("pre", "post")]
    for of, fields in (("node", nodes), ("edge", ties)):
        for f in fields:
            out.write(
                f'<key id="{of}_{f.name}" for="{of}" attr.name="{f.name}" '
                f'attr.type="{_TYPES[str(f.type)]}"/>\n'
            )
    out.write('<graph edgedefault="directed">\n')
    for batch in neurons.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            out.write(f'<node id="{row["id"]}">')
            out.write("".join(_data("node", f.name, row[f.name]) for f in nodes))
            out.write("</node>\n")
    for batch in edges.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            out.write(f'<edge source="{row["pre"]}" target="{row["post"]}">')
            out.write("".join(_data("edge", f.name, row[f.name]) for f in ties))
            out.write("</edge>\n")
    out.write("</graph>\n</graphml>\n")
    return out.getvalue()


def edge_list(edges: pa.Table) -> str:
    """CSV with a header: pre, post, count, total_size."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(edges.column_names)
    for batch in edges.to_batches(max_chunksize=10_000):
        writer.writerows(zip(*(c.to_pylist() for c in batch.columns), strict=True))
    return out.getvalue()


def _data(of: str, name: str, value: object) -> str:
    return "" if value is None else f'<data key="{of}_{name}">{value}</data>'
