"""Scores of a result against a truth."""
