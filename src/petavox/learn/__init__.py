"""Learning, whatever the network: augmentation, step sizes, ranks, checkpoints, the run to its end.

What it is: the trainer's machinery that the flood-filling network and the synapse network share.
What it is not: a network, or what a batch is.
"""
