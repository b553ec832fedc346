"""Flood synthetic tissue with the shipped network, and score it. Runs in seconds."""

# %% [markdown]
# # Flood and score
#
# Tissue with exact truth, a flood in memory, and its score. Nothing is written to disk.

# %%
import numpy as np

import petavox as pv

SIZE = (10, 10, 10)  # nm, z y x
tissue = pv.phantom(shape=(24, 48, 48), voxel_size=SIZE, seed=1)
print(tissue.image.shape, tissue.image.dtype, len(np.unique(tissue.labels)), "neurites")

# %% [markdown]
# An array does not know its voxel size; a DataArray does. What goes in as a DataArray comes out as
# one, in the same place.

# %%
image = pv.to_xarray(tissue.image, voxel_size=SIZE)
labels = pv.segment(image, pv.shipped_model(), precision="f32")
print(labels.dims, labels.dtype, int(labels.max()), "objects")

# %% [markdown]
# `fill` is the share of tissue that was labelled. Of what was labelled, `vi_split` is what was torn
# apart and `vi_merge` what was joined that should not be, in bits.

# %%
figures = pv.score(labels, tissue.labels, voxel_size=SIZE, tolerance=0)
print({k: round(figures["raw"][k], 3) for k in ("vi_split", "vi_merge")}, round(figures["fill"], 2))
assert figures["raw"]["vi_merge"] < 1

# %% [markdown]
# Two floods with the seeds in opposite order rarely make the same merger; their consensus keeps
# only what both hold together.

# %%
reverse = pv.segment(image, pv.shipped_model(), precision="f32", seeds={"reverse": True})
agreed = pv.consensus(labels, reverse, min_size=100)
both = pv.score(agreed, tissue.labels, voxel_size=SIZE, tolerance=0)
print({k: round(both["raw"][k], 3) for k in ("vi_split", "vi_merge")}, round(both["fill"], 2))
