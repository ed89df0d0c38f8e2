"""Interaction tables are read and validated here, and nowhere else."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SPLITS = ('train', 'validation', 'test')


class Interactions(NamedTuple):
    """Pairs of local ids, each with its split and perhaps a weight.

    Shapes: `user`, `item`, `split` (0 train, 1 validation, 2 test) and
    `weight` are all `[num_interactions]`.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    split: NDArray[np.int64]
    weight: NDArray[np.float32] | None = None


def require_columns(
    frame: pd.DataFrame, columns: dict[str, str], source: str
) -> None:
    """Refuse a table that lacks one of the columns `{argument: name}`."""
    for argument, column in columns.items():
        if column not in frame.columns:
            raise ValueError(
                f"{source} has no column '{column}' (columns: "
                f'{list(frame.columns)}). Name it with the argument '
                f"'{argument}'"
            )


def to_weight(column: 'pd.Series[Any]', source: str) -> NDArray[np.float32]:
    """Return weights as float32; they need to be finite and positive."""
    if not pd.api.types.is_numeric_dtype(column) or (
        pd.api.types.is_complex_dtype(column)
    ):
        raise TypeError(
            f"the weights '{column.name}' of {source} need to be numbers "
            f'(got {column.dtype})'
        )
    with np.errstate(over='ignore'):
        weight = column.to_numpy(dtype=np.float32, na_value=np.nan)
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight > 0)))
    if len(bad) > 0:
        raise ValueError(
            f"the weights '{column.name}' of {source} need to be finite and "
            f'positive ({len(bad):,} are not, the first is '
            f'{column.iloc[bad[0]]} in row {bad[0]})'
        )
    return weight


def _integers(frame: pd.DataFrame, name: str, path: Path) -> NDArray[np.int64]:
    column = frame[name]
    if not pd.api.types.is_integer_dtype(column):
        bad = pd.to_numeric(column, errors='coerce').to_numpy(dtype=float)
        rows = np.flatnonzero(~(bad == np.round(bad)))
        first = (
            f"; the first other value is '{column.iloc[rows[0]]}' in line "
            f'{rows[0] + 2}'
            if len(rows) > 0
            else ''
        )
        raise TypeError(
            f"the column '{name}' of '{path}' needs integers (got "
            f'{column.dtype}{first})'
        )
    return column.to_numpy(dtype=np.int64)


def _check_pairs(
    user: NDArray[np.int64], item: NDArray[np.int64], path: Path
) -> None:
    for name, ids in (('user', user), ('item', item)):
        if ids.min() < 0:
            line = int(np.argmax(ids < 0)) + 2
            raise ValueError(
                f"'{path}' has negative {name} ids (the first in line {line}:"
                f' {ids[line - 2]}); ids count from 0'
            )
    duplicated = pd.DataFrame({'u': user, 'i': item}).duplicated().to_numpy()
    if duplicated.any():
        line = int(np.argmax(duplicated)) + 2
        raise ValueError(
            f"'{path}' holds {int(duplicated.sum()):,} user-item pairs more "
            f'than once, within a split or across splits (the first repeat '
            f'is user {user[line - 2]}, item {item[line - 2]} in line {line}).'
            ' Drop the repeats; pyg_sea.datasets.from_pandas aggregates them'
        )
    # The largest id may be absurd (a timestamp), so count without a table.
    num_seen, num_users = len(np.unique(user)), int(user.max()) + 1
    if num_seen < num_users:
        seen = np.unique(user)
        first = int(np.argmax(np.append(seen, -1) != np.arange(num_seen + 1)))
        raise ValueError(
            f"'{path}' has gaps in its user ids: they reach "
            f'{num_users - 1:,}, but only {num_seen:,} users occur (the first '
            f'missing one is {first:,}). Count users from 0 without gaps; '
            'pyg_sea.datasets.from_pandas does that and keeps your ids'
        )


def read_inter(
    path: Path,
    user: str = 'userID',
    item: str = 'itemID',
    label: str = 'x_label',
    weight: str | None = None,
) -> Interactions:
    """Read a tab-separated `.inter` file of the MMRec format.

    Args:
        path: The file, with a header line.
        user: The column of user ids, which count from 0 without gaps.
        item: The column of item ids: rows of the feature matrices.
        label: The column that says 0 (train), 1 (validation) or 2 (test).
        weight: The column of interaction weights, if they are wanted.

    Raises a `ValueError` or `TypeError` that names the file and line on
    missing columns, ids that are no integers, negative, repeated or (users)
    have gaps, and labels other than 0, 1 and 2.
    """
    try:
        frame = pd.read_csv(path, sep='\t')
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(
            f"'{path}' is no tab-separated table with a header: {error}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is no UTF-8 text: {error}") from error

    columns = {'user': user, 'item': item, 'label': label}
    if weight is not None:
        columns['weight'] = weight
    require_columns(frame, columns, f"'{path}'")
    if len(frame) == 0:
        raise ValueError(f"'{path}' has a header, but no interactions")

    users, items = _integers(frame, user, path), _integers(frame, item, path)
    split = _integers(frame, label, path)
    unknown = np.flatnonzero((split < 0) | (split > 2))
    if len(unknown) > 0:
        raise ValueError(
            f"the column '{label}' of '{path}' needs 0 (train), 1 "
            f'(validation) or 2 (test) (got {split[unknown[0]]} in line '
            f'{unknown[0] + 2})'
        )
    _check_pairs(users, items, path)
    weights = None
    if weight is not None:
        weights = to_weight(frame[weight], f"'{path}'")
    return Interactions(users, items, split, weights)
