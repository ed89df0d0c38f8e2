"""Reading one folder in the MMRec format, shared by its datasets."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from torch_geometric.data import HeteroData

from pyg_sea.datasets._build import build_data
from pyg_sea.datasets._features import (
    NormalizeArg,
    check_normalize,
    clean_features,
)
from pyg_sea.datasets._interactions import read_inter
from pyg_sea.datasets._matrix import Matrix
from pyg_sea.datasets._npy import read_npy

# What MMRec's own preprocessing writes beside NAME.inter.
ID_MAPS = {'user': 'u_id_mapping.csv', 'item': 'i_id_mapping.csv'}


def _read_id_map(path: Path, column: str, num_nodes: int) -> list[str] | None:
    if not path.is_file():
        return None
    frame = pd.read_csv(path, sep='\t', dtype=str, keep_default_na=False)
    if column not in frame.columns or len(frame.columns) != 2:
        raise ValueError(
            f"'{path}' needs two tab-separated columns, external ids and "
            f"'{column}' (got {list(frame.columns)})"
        )
    local = pd.to_numeric(frame[column], errors='coerce').to_numpy()
    order = np.argsort(local)
    if not np.array_equal(local[order], np.arange(num_nodes)):
        raise ValueError(
            f"'{path}' needs to name each '{column}' from 0 to "
            f'{num_nodes - 1:,} exactly once (got {len(frame):,} rows). '
            'Repair it, or take it out of the folder'
        )
    external = frame.drop(columns=column).iloc[:, 0]
    if external.duplicated().any():
        repeated = external[external.duplicated()].iloc[0]
        raise ValueError(f"'{path}' repeats the external id {repeated!r}")
    return list(external.iloc[order])


def read_folder(
    folder: Path,
    name: str,
    modalities: Mapping[str, str],
    normalize: NormalizeArg = None,
    user: str = 'userID',
    item: str = 'itemID',
    label: str = 'x_label',
    weight: str | None = None,
    cache_dir: Path | None = None,
    half: bool = True,
) -> HeteroData:
    """Read `NAME.inter`, one feature file per modality, and id maps if any.

    Args:
        folder: The folder with all of them; nothing is written to it.
        name: The name of the `.inter` file without its suffix.
        modalities: Modality names and their files, in their order.
        normalize: As in `clean_features`.
        user: As in `read_inter`, like the ones below.
        item: The column of item ids.
        label: The column of split labels.
        weight: The column of interaction weights, if wanted.
        cache_dir: As in `clean_features`, like `half`; not `folder`.
        half: Whether mapped float16 stays float16.

    Raises whatever the readers of its parts raise.
    """
    check_normalize(normalize, list(modalities))
    interactions = read_inter(
        folder / f'{name}.inter', user, item, label, weight
    )
    matrices = {}
    for key, file in modalities.items():
        path = folder / file
        matrices[key] = Matrix(key, read_npy(path), source=path)
    features = clean_features(
        matrices, normalize, cache_dir=cache_dir, half=half
    )
    data = build_data(interactions, features)
    for node_type, column in (('user', user), ('item', item)):
        path = folder / ID_MAPS[node_type]
        ids = _read_id_map(path, column, data[node_type].num_nodes)
        if ids is not None:
            data[node_type].external_id = ids
    return data
