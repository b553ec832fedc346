"""One module per format: each turns a path into a Volume.

`facts` settles what all formats must settle alike, `ome` is the metadata that both zarr versions
share, `tensorstores` is the Store of every format that TensorStore reads.
"""
