"""One module per format: each turns a path into a Volume."""
