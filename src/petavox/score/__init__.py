"""Scores: how far a result is from a truth. Arrays, tables and graphs in, numbers out.

What it is: contingency tables that add up over blocks (`pairs`), VI and adapted Rand on them
(`overlap`), the boundary tolerance (`tolerance`), where splits and mergers lie (`errors`),
expected run length (`runs`), synapses and wiring (`synapses`). What it is not: anything that
opens a volume; that is petavox.stages.score.
"""
