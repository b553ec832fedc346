"""The Python API: the verbs of the command line, for arrays and for paths.

What it is: one function for each verb. Without `out`, arrays go in and arrays come out; with
`out`, the work is that of the command of the same name, and its figures come back.
What it is not: science or machinery; both are reached through petavox.stages.

    import petavox as pv

    image = pv.open("block.h5/raw")                 # a path, an array or a DataArray will do
    labels = pv.segment(image, "fib25.safetensors") # an array of ids
    pv.score(labels, truth, voxel_size=(10, 10, 10))["raw"]["vi"]
"""
