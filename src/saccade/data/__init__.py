"""Data: the rendered street."""
