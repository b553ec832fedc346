"""Synthetic tissue with exact truth."""
