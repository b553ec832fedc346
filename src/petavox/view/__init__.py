"""What a person sees: pictures of slices, Neuroglancer, and the report.

What it is: `layers` and `scene` say what Neuroglancer shows, `server` serves it, `browser` takes
screenshots, `picture` draws slices without any of them. What it is not: a maker of data.
"""
