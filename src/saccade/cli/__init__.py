"""The command line: `saccade demo`, `run`, `report`, `redundancy`, `explain`, `train`, `evaluate` and `classify`."""

from saccade.cli.app import main

__all__ = ["main"]
