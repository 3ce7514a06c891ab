"""The command line: `saccade demo`, `run`, `report`, `redundancy`, `explain`, `train` and `evaluate`."""

from saccade.cli.app import main

__all__ = ["main"]
