"""Measures of runs, agreement and detection, as small dataclasses."""
