"""Flood-filling networks: the network, the canvas that floods, seeds, moves, training."""
