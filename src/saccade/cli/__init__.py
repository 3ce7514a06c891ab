"""The command line: `saccade demo`, `saccade run`, `saccade explain`."""

from saccade.cli.app import main

__all__ = ["main"]
