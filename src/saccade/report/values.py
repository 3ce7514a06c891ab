"""Numbers by name, as a table."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table
from rich.text import Text


def values_table(title: str, values: Mapping[str, object]) -> Table:
    """Returns a table of two columns, names and values; floats are shown with five digits."""
    table = Table(title=Text(title), box=box.SIMPLE, title_justify="left", show_header=False, pad_edge=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold", justify="right")
    for name, value in values.items():
        table.add_row(Text(name), Text(f"{value:.5g}" if isinstance(value, float) else str(value)))
    return table
