"""Synapses: detect clefts, assign partners."""
