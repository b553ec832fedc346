"""The arrows of the pipeline: each joins a science to volumes and blocks."""
