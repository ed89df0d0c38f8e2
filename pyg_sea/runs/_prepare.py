"""From tables and raw modalities to a folder in the MMRec format."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import HeteroData

import pyg_sea
from pyg_sea.datasets._folder import ID_MAPS
from pyg_sea.datasets.tables import from_pandas
from pyg_sea.runs._catalogue import TITLES, write_titles
from pyg_sea.runs._data import PREPARED, prepared
from pyg_sea.runs._features import Recipe, write_features
from pyg_sea.runs._files import write_json
from pyg_sea.runs._tables import count, text_of, write_table


def prepare(
    out: Path,
    interactions: pd.DataFrame,
    items: pd.DataFrame,
    recipes: Mapping[str, Recipe],
    base: Path,
    *,
    user: str,
    item: str,
    item_id: str,
    title: str | None = None,
    weight: str | None = None,
    device: str = 'auto',
    progress: bool = True,
    say: Callable[[str], None] = print,
    **kwargs: Any,
) -> None:
    """Write `<name>.inter`, features, ids and titles, and how they were made.
    `<name>.inter` comes last: without it the folder is not read.

    Args:
        out: The folder; its name becomes that of the catalogue.
        interactions: One row per interaction.
        items: One row per item, with ids as its index.
        recipes: Where the features of each modality come from.
        base: What paths in `items` are relative to.
        user: The column of users in `interactions`.
        item: The column of items there.
        item_id: What the column of ids in `items` is called.
        title: The column of titles in `items` (default: `None`).
        weight: The column of weights in `interactions` (default: `None`).
        device: Where models compute (default: `'auto'`).
        progress: Whether to show progress bars (default: `True`).
        say: Tells what is done (default: `print`).
        **kwargs: Arguments of :func:`~pyg_sea.datasets.from_pandas`.

    Raises a `FileExistsError` if there is something else in `out`, and what
    reading and encoding raise.
    """
    out = out.expanduser().absolute()
    _check_folder(out)
    recipes = {name: recipe.found(items) for name, recipe in recipes.items()}
    # Features come later, of the items that remain.
    everything = pd.DataFrame({0: 1.0}, index=interactions[item].unique())
    data = from_pandas(
        interactions,
        {'none': everything},
        user,
        item,
        weight=weight,
        **kwargs,
    )
    ids = [str(x) for x in data['item'].external_id]
    unknown = [x for x in ids if x not in items.index]
    store = data['user', 'buys', 'item']
    say(
        f'{data["user"].num_nodes:,} users, {len(ids):,} items, '
        f'{store.edge_index.size(1):,} train, '
        f'{store.val_edge_index.size(1):,} validation, '
        f'{store.test_edge_index.size(1):,} test interactions'
    )
    if len(unknown) == len(ids):
        raise ValueError(
            'no item of the interactions is in the table of items: they are '
            f'{ids[:3]} there, and {items.index[:3].tolist()} here'
        )
    if unknown:
        say(
            f'{count(len(unknown))} not in the table of items, such as '
            f'{unknown[0]}: no features'
        )
    rest = len(items) - (len(ids) - len(unknown))
    if rest > 0:
        say(
            f'{count(rest)} of the table left out, without interactions: '
            "'pyg-sea add-items' adds them to a trained recommender"
        )

    out.mkdir(parents=True, exist_ok=True)
    for path in out.glob('*.inter'):
        path.unlink()
    old = (prepared(out) or {'modalities': {}})['modalities']
    for name in old:
        if name not in recipes:
            (out / f'{name}_feat.npy').unlink(missing_ok=True)
    # From here on the folder is known to be ours.
    write_json(
        out / PREPARED,
        {
            'pyg_sea': pyg_sea.__version__,
            'item_id': item_id,
            'title': title,
            'weight': None if weight is None else 'weight',
            'modalities': {
                name: recipe.to_json() for name, recipe in recipes.items()
            },
        },
    )
    for name, recipe in recipes.items():
        file = out / f'{name}_feat.npy'
        written = write_features(
            recipe, items, ids, file, base, device, progress
        )
        say(f'{name}: {written.describe(ids)}')
    write_titles(out / TITLES, titles_of(items, ids, title))
    for kind, column in (('user', 'userID'), ('item', 'itemID')):
        external = [str(x) for x in data[kind].external_id]
        table = pd.DataFrame({f'{kind}_id': external})
        write_table(
            # Tabs in a .csv, as MMRec has it.
            out / ID_MAPS[kind],
            table.assign(**{column: range(len(external))}),
            sep='\t',
        )
    write_table(out / f'{out.name}.inter', _inter(data))


def titles_of(
    items: pd.DataFrame, ids: Sequence[str], title: str | None
) -> dict[str, str]:
    """Return the titles of those items that have one."""
    if title is None:
        return {}
    texts = text_of(items.reindex(list(ids)), [title])
    return {
        item: ' '.join(text.split())
        for item, text in zip(ids, texts)
        if text is not None
    }


def _inter(data: HeteroData) -> pd.DataFrame:
    store = data['user', 'buys', 'item']
    parts = [store.edge_index, store.val_edge_index, store.test_edge_index]
    label = np.repeat([0, 1, 2], [part.size(1) for part in parts])
    user, item = torch.cat(parts, dim=1).numpy()
    table = pd.DataFrame({'userID': user, 'itemID': item, 'x_label': label})
    if 'edge_weight' in store:
        # Those of held-out interactions are never read.
        table['weight'] = 1.0
        table.loc[label == 0, 'weight'] = store.edge_weight.numpy()
    return table


def _check_folder(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir() or (
        any(out.iterdir()) and not (out / PREPARED).is_file()
    ):
        raise FileExistsError(
            f"'{out}' is there already and was not prepared by pyg_sea: "
            'choose another folder'
        )
