"""Meshes, skeletons and a connectome of any label array. Runs in seconds."""

# %% [markdown]
# # Label arrays to neurons
#
# Any array of ids will do, whoever made it. Here: the truth of a phantom.

# %%
import numpy as np

import petavox as pv

SIZE = (10, 10, 10)  # nm, z y x
tissue = pv.phantom(shape=(24, 48, 48), voxel_size=SIZE, seed=1)
ids, voxels = np.unique(tissue.labels, return_counts=True)
largest = int(ids[voxels.argmax()])

# %% [markdown]
# The surface of one object, vertices in nm (z y x); closed where the volume ends.

# %%
surface = pv.mesh(tissue.labels, voxel_size=SIZE, only=(largest,))[largest]
print(len(surface.vertices), "vertices,", len(surface.faces), "faces")
low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
assert (low >= -10).all()
assert (high <= np.array([24, 48, 48]) * 10 + 10).all()

# %% [markdown]
# Centre lines with radii, where the extra `petavox[skeletons]` is installed. These pieces are
# short, so TEASAR's constant is small and nothing counts as dust.

# %%
try:
    skeletons = pv.skeletonize(
        tissue.labels, voxel_size=SIZE, only=(largest,), dust_nm3=0, teasar={"const_nm": 50.0}
    )
    print(len(skeletons[largest].vertices), "nodes")
except pv.PetavoxError as e:
    print(e)

# %% [markdown]
# Synapses are a table: a position, the partners, a size. Here three that join the two largest.

# %%
second = int(ids[voxels.argsort()[-2]])
synapses = {
    "id": [1, 2, 3],
    "z_nm": [50.0, 90.0, 120.0],
    "y_nm": [100.0, 200.0, 300.0],
    "x_nm": [100.0, 200.0, 300.0],
    "pre": [largest, largest, second],
    "post": [second, second, largest],
    "size": [90.0, 120.0, 60.0],
    "score": [1.0, 0.9, 0.8],
}
tables = pv.connectome(tissue.labels, synapses, voxel_size=SIZE)
for edge in tables["edges"].to_pylist():
    print(edge)
assert sorted(e["count"] for e in tables["edges"].to_pylist()) == [1, 2]
