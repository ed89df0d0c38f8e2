import numpy as np
import pandas as pd
import pytest

from pyg_sea.datasets import FakeMultimodal


@pytest.fixture(scope='session')
def shop_options(tmp_path_factory):
    """The command line for a small catalogue in the MMRec format."""
    root = tmp_path_factory.mktemp('quality') / 'shop'
    root.mkdir()
    data = FakeMultimodal(num_users=80, num_items=60)[0]
    store = data['user', 'buys', 'item']
    edges = [store.edge_index, store.val_edge_index, store.test_edge_index]
    rows = [
        pd.DataFrame({'userID': user, 'itemID': item, 'x_label': label})
        for label, (user, item) in enumerate(e.numpy() for e in edges)
    ]
    pd.concat(rows).to_csv(root / 'shop.inter', sep='\t', index=False)
    options = ['--data', str(root), '--k', '4']
    for name in ('image', 'text'):
        np.save(root / f'{name}.npy', data['item'][f'x_{name}'].numpy())
        options += ['--modality', f'{name}={name}.npy']
    return options
