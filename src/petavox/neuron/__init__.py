"""Neurons: meshes, skeletons, the connectome's tables and graph."""
