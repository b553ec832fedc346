"""Other programs at the same work, in the same run, each in an environment of its own.

    python -m benchmarks.peers                     # all of them
    python -m benchmarks.peers tensorflow zarr

What it is: for each peer the packages it needs, installed from the registries into
benchmarks/.peers/NAME, a script that runs there, and petavox at the same work beside it. A peer
that cannot be installed, or fails, gives a row that says so.
What it is not: a judgement of those programs; each is used as its own documentation says, at its
defaults, on the small data of these benchmarks.
"""
