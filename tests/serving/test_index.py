import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_sea import Recommender
from pyg_sea.serving._index import FaissSearch

from .made import WIDTHS, I, make_recommender

pytest.importorskip('faiss')


class Rows(torch.nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = torch.nn.Parameter(rows)

    def get_embedding(self, **kwargs):
        return self.rows


def make(num_users=300, num_items=4000, degree=20, unit=True):
    rows = torch.randn(num_users + num_items, 16)
    if unit:
        rows = torch.nn.functional.normalize(rows)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = num_users, num_items
    data['item'].x_text = torch.zeros(num_items, 1)
    user = torch.arange(num_users).repeat_interleave(degree)
    item = torch.randint(num_items, (user.numel(),))
    # One user has nearly everything.
    user = torch.cat([user, torch.zeros(num_items - 3, dtype=torch.long)])
    item = torch.cat([item, torch.arange(num_items - 3)])
    data['user', 'buys', 'item'].edge_index = torch.stack([user, item])
    return Recommender.from_model(Rows(rows), data)


@pytest.mark.parametrize('unit', [True, False])
@pytest.mark.parametrize('wanted', [0.5, 0.95])
def test_recall_is_measured(wanted, unit):
    recommender = make(unit=unit)
    recommender.recall = wanted
    assert recommender.recall_ is None
    found = recommender.recommend(exclude_seen=False, method='faiss')
    exact = recommender.recommend(exclude_seen=False, method='exact')
    both = pd.merge(found, exact, on=['user', 'item'])
    assert recommender.recall_ >= wanted
    # There are fewer users than it measures with.
    assert len(both) / len(exact) == pytest.approx(recommender.recall_)


def test_all_cells_are_exact():
    recommender = make()
    recommender.recall = 1.0
    found = recommender.recommend(k=30, method='faiss')
    exact = recommender.recommend(k=30, method='exact')
    pd.testing.assert_frame_equal(
        found.drop(columns='score'), exact.drop(columns='score')
    )
    np.testing.assert_allclose(found['score'], exact['score'], rtol=1e-4)
    assert (found['user'] == 0).sum() == 3
    assert recommender.recall_ == 1.0


def test_few_cells_leave_nobody_short():
    recommender = make()
    recommender.recall = 0.01
    found = recommender.recommend(k=200, method='faiss')
    size = found.groupby('user').size()
    assert size[0] == 3
    assert (size[1:] == 200).all()
    seen = recommender.state.seen.pairs
    pairs = torch.tensor(found[['user', 'item']].to_numpy())
    assert not torch.isin(
        pairs[:, 0] * 4000 + pairs[:, 1], seen[0] * 4000 + seen[1]
    ).any()
    for _, part in found.groupby('user'):
        assert part['score'].is_monotonic_decreasing
        assert part['item'].is_unique


def test_size_decides():
    recommender = make()
    recommender.recommend([1])
    assert recommender.recall_ is None
    recommender.exact_below = 3999
    first = recommender.recommend(k=5)
    assert recommender.recall_ >= 0.95
    index = recommender._searches._index[1]
    pd.testing.assert_frame_equal(recommender.recommend(k=5), first)
    assert recommender._searches._index[1] is index
    recommender.recall = 1.0
    recommender.recommend(k=5)
    assert recommender.recall_ == 1.0
    recommender.recall = 1.5
    with pytest.raises(ValueError, match=r"'recall'.*1\.5"):
        recommender.recommend(k=5)


def test_index_stays_as_long_as_items_do():
    recommender = make_recommender()
    recommender.recommend(method='faiss')
    index = recommender._searches._index
    table = pd.DataFrame({'user': ['new'], 'item': [1004]})
    later = recommender.add_interactions(table)
    assert later._searches._index is index
    features = {'text': torch.randn(1, WIDTHS['text'])}
    larger = later.add_items(features, [77])
    assert larger.recall_ is None
    found = larger.recommend(k=I + 1, method='faiss')
    assert 77 in set(found['item'])
    assert recommender._searches._index is index


@pytest.mark.parametrize('num_clusters', [None, 50])
def test_slow_index_is_left_alone(num_clusters):
    recommender = make()
    if num_clusters is not None:
        centre = torch.randn(num_clusters, 16)
        for x in (recommender.state.user, recommender.state.item):
            noise = 0.01 * torch.randn(x.size(0), 16)
            x.copy_(centre[torch.randint(num_clusters, (x.size(0),))] + noise)
    recommender.exact_below = 10
    recommender.recall = 0.99
    search = recommender._searches.choose('auto', None)
    assert isinstance(search, FaissSearch) == (num_clusters is not None)
    # It is used where it is asked for.
    search = recommender._searches.choose('faiss', None)
    assert isinstance(search, FaissSearch)


def test_without_faiss(monkeypatch):
    recommender = make(num_items=100)
    monkeypatch.setitem(__import__('sys').modules, 'faiss', None)
    with pytest.raises(ImportError, match=r'pyg_sea\[knn\]'):
        recommender.recommend(method='faiss')
