import numpy as np
import pandas as pd
import pytest

from pyg_sea.datasets import FakeMultimodal

pytest.importorskip('lightning', reason='a run has to be trained')
pytest.importorskip('sklearn', reason='the report needs scikit-learn')

from pyg_sea.runs import make_settings, train_run

HOSTILE = '<script>alert("{}")</script>'


@pytest.fixture(scope='session')
def shop(tmp_path_factory):
    """A small catalogue whose ids and titles are markup. Every tenth item has
    no image, and the last five nobody has in training.
    """
    root = tmp_path_factory.mktemp('report') / 'shop'
    root.mkdir()
    data = FakeMultimodal(num_users=120, num_items=90)[0]
    store = data['user', 'buys', 'item']
    edges = [store.edge_index, store.val_edge_index, store.test_edge_index]
    edges[0] = edges[0][:, edges[0][1] < 85]
    tables = [
        pd.DataFrame({'userID': user, 'itemID': item, 'x_label': label})
        for label, (user, item) in enumerate(e.numpy() for e in edges)
    ]
    pd.concat(tables).to_csv(root / 'shop.inter', sep='\t', index=False)
    for name in ('image', 'text'):
        x = data['item'][f'x_{name}'].numpy().copy()
        if name == 'image':
            x[::10] = np.nan
        np.save(root / f'{name}_feat.npy', x)
    ids = [HOSTILE.format(i) for i in range(90)]
    for kind, num in (('u', 120), ('i', 90)):
        column = 'userID' if kind == 'u' else 'itemID'
        table = pd.DataFrame(
            {'id': [f'{kind}{i}' for i in range(num)], column: range(num)}
        )
        if kind == 'i':
            table['id'] = ids
        table.to_csv(root / f'{kind}_id_mapping.csv', sep='\t', index=False)
    titles = [f'Tea & <b>biscuits</b> {i}' for i in range(90)]
    pd.DataFrame({'item': ids, 'title': titles}).to_csv(
        root / 'titles.csv', index=False
    )
    return root


def _train(shop, out, model, **kwargs):
    settings = make_settings(
        shop, model, kwargs, max_epochs=2, batch_size=512, k=4
    )
    return train_run(settings, out, progress=False)


@pytest.fixture(scope='session')
def sea_run(shop, tmp_path_factory):
    return _train(
        shop, tmp_path_factory.mktemp('run'), 'SEA', hidden_channels=16
    )


@pytest.fixture(scope='session')
def vbpr_run(shop, tmp_path_factory):
    return _train(
        shop, tmp_path_factory.mktemp('run'), 'VBPR', hidden_channels=8
    )


@pytest.fixture(scope='session')
def released_run(shop, tmp_path_factory):
    return _train(
        shop, tmp_path_factory.mktemp('run'), 'ReleasedSEA', hidden_channels=8
    )
