"""Public data sets: which there are, and fetching them.

What it is: the catalogue (catalogue.yaml) and the download of its files. What it is not: a reader;
what was fetched is opened and imported like any other volume.
"""

from petavox.datasets.catalogue import DataSet, catalogue, named
from petavox.datasets.fetch import fetch

__all__ = ["DataSet", "catalogue", "fetch", "named"]
