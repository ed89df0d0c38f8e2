"""A small folder in the MMRec format."""

from pathlib import Path

import numpy as np
import pandas as pd

from pyg_sea.datasets import FakeMultimodal

SHORT = {'max_epochs': 3, 'batch_size': 64}
SMALL = {'hidden_channels': 8, 'id_channels': 4, 'num_anchors': None}


def make_folder(folder: Path, num_users: int = 60) -> Path:
    """Write users and 40 items of two modalities, with external ids and
    weights.
    """
    data = FakeMultimodal(num_users, 40, {'image': 6, 'text': 4})[0]
    folder.mkdir(parents=True)
    store = data['user', 'buys', 'item']
    parts = [store.edge_index, store.val_edge_index, store.test_edge_index]
    rows = [
        (*pair, label, 1 + label)
        for label, edges in enumerate(parts)
        for pair in edges.t().tolist()
    ]
    names = ['userID', 'itemID', 'x_label', 'rating']
    table = pd.DataFrame(rows, columns=names)
    table.to_csv(folder / 'shop.inter', sep='\t', index=False)
    for name in ('image', 'text'):
        x = data['item'][f'x_{name}'].numpy()
        np.save(folder / f'{name}_feat.npy', 3 * x + 1)
    for kind, column, num in (('u', 'userID', num_users), ('i', 'itemID', 40)):
        ids = pd.DataFrame(
            {f'{kind}_id': [f'{kind}-{i:02d}' for i in range(num)]}
        )
        ids[column] = range(num)
        path = folder / f'{kind}_id_mapping.csv'
        ids.to_csv(path, sep='\t', index=False)
    return folder
