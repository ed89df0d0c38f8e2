"""Tables on the screen."""

from collections.abc import Mapping
from typing import Any

import click

_WIDEST = 60


def show(table: Any) -> None:
    """Print a data frame: texts to the left, numbers to the right.

    Args:
        table: The data frame.
    """
    columns = []
    for name in table:
        cells = [_cell(value) for value in table[name]]
        width = max(map(len, [str(name), *cells]))
        # Of whole numbers and fractions, not of ids.
        right = table[name].dtype.kind in 'if'
        align = str.rjust if right else str.ljust
        columns.append([align(cell, width) for cell in [str(name), *cells]])
    for row in zip(*columns):
        click.echo('  '.join(row).rstrip())


def metrics_table(part: str, rows: Mapping[str, Mapping[str, float]]) -> Any:
    """Metrics as a table, one row per model.

    Args:
        part: What they were measured on, the name of the first column.
        rows: The metrics of each model.
    """
    import pandas as pd

    return pd.DataFrame([{part: name, **row} for name, row in rows.items()])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.4f}'
    text = str(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + '...'
