"""Synapses: where they are, and which neurons they join; mitochondria by the same network.

What it is: the network that sees clefts and their sides, its training, and the assignment of
partners, on arrays. What it is not: volumes or blocks (petavox.stages.synapses).
"""
