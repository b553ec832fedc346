"""What a person sees: Neuroglancer and the report."""
