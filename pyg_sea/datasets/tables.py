import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_sea.datasets._build import build_data, warn_isolated
from pyg_sea.datasets._features import NormalizeArg, clean_features
from pyg_sea.datasets._interactions import (
    Interactions,
    require_columns,
    to_weight,
)
from pyg_sea.datasets._matrix import select_rows
from pyg_sea.datasets._npy import cache_dir_of
from pyg_sea.datasets._splits import (
    leave_last_out_split,
    random_split,
    time_split,
)

Split = Literal['random', 'leave_last_out', 'time']


def from_pandas(
    interactions: pd.DataFrame,
    features: Mapping[str, pd.DataFrame | ArrayLike | Tensor],
    user: str = 'user',
    item: str = 'item',
    time: str | None = None,
    weight: str | None = None,
    split: Split = 'random',
    k_core: int | None = None,
    item_ids: Sequence[Any] | NDArray[Any] | None = None,
    normalize: NormalizeArg = None,
    seed: int = 0,
    *,
    mmap: bool = False,
    cache_dir: str | Path | None = None,
) -> HeteroData:
    r"""Turns a table of interactions and the items' features into the
    :class:`~torch_geometric.data.HeteroData` that all of `pyg_sea` works on.

    Users and items are numbered in the sorted order of their ids; the ids
    themselves are kept as `external_id`. Users and items that are not in the
    (filtered) interactions are left out.

    Repeated pairs become one: their weights are added up, their last time
    counts. Interactions are split by one of three rules:

    - `'random'`: 80/10/10 per user, the rule of the Amazon files of the
      field. Of a user's `n` interactions `h` are held out, `h = n // 5`, or 2
      if `n < 10`: `h // 2` for validation, the rest for test.
    - `'leave_last_out'`: each user's last interaction is for test, the one
      before for validation. Among equal times the later row is the later one.
    - `'time'`: the last 10 % of all interactions are for test, the 10 %
      before for validation, and what happened in one moment stays together.

    In the first two, users with less than 3 interactions stay in train.

    Args:
        interactions: One row per interaction.
        features: One matrix of floats per modality. The rows of a `DataFrame`
            belong to the item ids in its index, in any order. Those of an
            array or tensor belong to `item_ids`. A row of NaN or of zeros
            says that the item lacks this modality; it becomes a row of zeros.
        user: The column of user ids, of any sortable type
            (default: `'user'`).
        item: The column of item ids, of any sortable type
            (default: `'item'`).
        time: The column of times, numbers or dates (default: `None`).
        weight: The column of positive weights, which become the
            `edge_weight` of train edges (default: `None`).
        split: `'random'`, `'leave_last_out'` or `'time'`; the latter two need
            `time` (default: `'random'`).
        k_core: Drop users and items with less than `k_core` interactions
            until there are none (default: `None`).
        item_ids: Which item each row of the feature arrays belongs to
            (default: `None`, row `i` belongs to the item with the id `i`).
        normalize: As in :class:`~pyg_sea.datasets.MMRecDataset`
            (default: `None`).
        seed: Seeds the random split (default: `0`).
        mmap: Whether features are memory-mapped, as in
            :class:`~pyg_sea.datasets.MMRecDataset`. Arrays may be mapped
            themselves, `np.load(..., mmap_mode='r')`, and are read in chunks
            then. Copies are known by their content (default: `False`).
        cache_dir: As in :class:`~pyg_sea.datasets.MMRecDataset`
            (default: `None`).

    Shapes:
        - features: `[num_rows, width]` each
        - output: as in :class:`~pyg_sea.datasets.MMRecDataset`

    Raises a `ValueError` or `TypeError` for missing columns or values, items
    without features, index values or `item_ids` that repeat, weights that are
    not positive, times that do not sort, and empty splits. Warns with counts
    of repeated pairs, of items that lack a modality, and of users and items
    without a train edge.

    Example:
        >>> import numpy as np
        >>> import pandas as pd
        >>> from pyg_sea.datasets import from_pandas
        >>> orders = pd.DataFrame({
        ...     'user': ['eve'] * 3 + ['bob'] * 3 + ['ann'] * 3,
        ...     'item': ['tea', 'cup', 'jam', 'cup', 'jam', 'tea'] + [
        ...         'jam', 'tea', 'cup'],
        ...     'day': [1, 2, 3] * 3,
        ... })
        >>> titles = pd.DataFrame(np.eye(3), index=['tea', 'jam', 'cup'])
        >>> data = from_pandas(orders, {'text': titles}, time='day',
        ...                    split='leave_last_out')
        >>> data['item'].external_id.tolist()
        ['cup', 'jam', 'tea']
        >>> data['user', 'buys', 'item'].edge_index.tolist()
        [[0, 1, 2], [1, 0, 2]]
    """
    _check_arguments(split, time, k_core)
    table = _read_table(interactions, user, item, time, weight)
    if k_core is not None:
        table = _k_core(table, k_core)
    user_code, user_ids = _number(table['user'], user)
    item_code, items = _number(table['item'], item)

    matrices = {
        name: select_rows(name, x, items, item_ids)
        for name, x in features.items()
    }
    folder = cache_dir_of(cache_dir) if mmap else None
    cleaned = clean_features(matrices, normalize, items, folder)

    table = _aggregate(
        table.drop(columns=['user', 'item']), user_code, item_code
    )
    user_code, item_code = table['user'].to_numpy(), table['item'].to_numpy()
    if split == 'random':
        labels = random_split(user_code, np.random.default_rng(seed))
    elif split == 'leave_last_out':
        labels = leave_last_out_split(user_code, table['order'].to_numpy())
    else:
        labels = time_split(table['time'].to_numpy())

    weights = None
    if weight is not None:
        weights = table['weight'].to_numpy(dtype=np.float32)
    data = build_data(
        Interactions(user_code, item_code, labels, weights),
        cleaned,
        user_ids,
        items,
    )
    warn_isolated(data)
    return data


def _check_arguments(split: str, time: str | None, k_core: int | None) -> None:
    if split not in ('random', 'leave_last_out', 'time'):
        raise ValueError(
            "'split' needs to be 'random', 'leave_last_out' or 'time' (got "
            f'{split!r})'
        )
    if split != 'random' and time is None:
        raise ValueError(
            f"the split '{split}' needs the argument 'time', the name of the "
            'column of times (got None)'
        )
    if k_core is not None and k_core < 1:
        raise ValueError(
            f"'k_core' needs to be a positive integer or None (got {k_core})"
        )


def _read_table(
    interactions: pd.DataFrame,
    user: str,
    item: str,
    time: str | None,
    weight: str | None,
) -> pd.DataFrame:
    source = "'interactions'"
    if not isinstance(interactions, pd.DataFrame):
        raise TypeError(
            f'{source} needs to be a pandas DataFrame (got '
            f'{type(interactions).__name__})'
        )
    columns = {'user': user, 'item': item}
    if time is not None:
        columns['time'] = time
    if weight is not None:
        columns['weight'] = weight
    require_columns(interactions, columns, source)
    if len(interactions) == 0:
        raise ValueError(f'{source} is empty')

    table = pd.DataFrame(
        {key: interactions[column] for key, column in columns.items()}
    )
    missing = table.isna().any(axis=1)
    if missing.any():
        raise ValueError(
            f'{source} lacks values in {int(missing.sum()):,} rows, the first '
            f'is {missing[missing].index.tolist()[0]!r}. Drop or repair them; '
            f'these columns are needed: {list(columns.values())}'
        )
    if time is not None and not (
        pd.api.types.is_numeric_dtype(table['time'])
        or pd.api.types.is_datetime64_any_dtype(table['time'])
    ):
        raise TypeError(
            f"the column '{time}' needs numbers or dates (got "
            f'{table["time"].dtype}); convert it with pandas.to_datetime'
        )
    if weight is not None:
        table['weight'] = to_weight(interactions[weight], source)
    return table


def _k_core(table: pd.DataFrame, k: int) -> pd.DataFrame:
    # Dropping users can push items below k and the other way round.
    keep = np.zeros(1, dtype=bool)
    while not keep.all():
        num_user = table.groupby('user')['item'].transform('nunique')
        num_item = table.groupby('item')['user'].transform('nunique')
        keep = ((num_user >= k) & (num_item >= k)).to_numpy()
        table = table[keep]
        if len(table) == 0:
            raise ValueError(
                f"no interactions are left by the filter 'k_core' = {k}; "
                'lower it'
            )
    return table


def _number(
    column: 'pd.Series[Any]', name: str
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    kind = pd.api.types.infer_dtype(column)
    if kind.startswith('mixed'):
        raise TypeError(
            f"the ids in column '{name}' need to be of one type that sorts "
            f'(got {kind}); convert them, e.g. with .astype(str)'
        )
    codes, ids = pd.factorize(column, sort=True)
    return codes.astype(np.int64), ids.to_numpy()


def _aggregate(
    table: pd.DataFrame, user: NDArray[np.int64], item: NDArray[np.int64]
) -> pd.DataFrame:
    table = table.assign(user=user, item=item)
    if 'time' in table:
        # Pairs get sorted by ids; this keeps which row was the later one.
        table['order'] = table['time'].rank(method='first').to_numpy()
    groups = table.groupby(['user', 'item'], sort=True)
    rules = {'time': 'max', 'order': 'max', 'weight': 'sum'}
    used = {key: rule for key, rule in rules.items() if key in table}
    pairs = groups.agg(used) if used else groups.first()
    out = pairs.reset_index()
    num_repeats = len(table) - len(out)
    if num_repeats > 0:
        warnings.warn(
            f'{num_repeats:,} of {len(table):,} interactions repeat a '
            'user-item pair; each pair became one interaction (weights add '
            'up, the last time counts)',
            stacklevel=3,
        )
    return out
