"""The command line: `saccade demo`, `run`, `report`, `explain`, `train` and `evaluate`."""

from saccade.cli.app import main

__all__ = ["main"]
