"""What a person sees: pictures of slices, Neuroglancer, and the report.

What it is: `layers` and `scene` say what Neuroglancer shows, `project` which layers a project has,
`annotations` and `chunks` make its files on demand; `server` serves them, `static` writes them into
a folder, `browser` takes screenshots. `picture` draws slices without any of them, and `report`
writes one HTML file. What it is not: a maker of data.
"""
