import numpy as np
import pytest
import torch

from pyg_sea.datasets._build import EDGE_TYPE, build_data, warn_isolated
from pyg_sea.datasets._interactions import Interactions


def made(weight=None):
    columns = [[0, 1, 1, 2, 0], [3, 0, 1, 1, 2], [0, 0, 1, 0, 2]]
    return Interactions(*(np.array(x) for x in columns), weight)


def test_every_pair_goes_into_its_split():
    weight = np.array([5, 4, 3, 2, 1], dtype=np.float32)
    x = {'image': torch.randn(4, 2), 'text': torch.randn(4, 3)}
    data = build_data(made(weight), x, ['a', 'b', 'c'], range(4))
    assert data['user'].num_nodes == 3
    assert data['item'].num_nodes == 4
    assert data['item'].x_image is x['image']
    assert data['item'].x_text is x['text']
    store = data[EDGE_TYPE]
    assert store.edge_index.tolist() == [[0, 1, 2], [3, 0, 1]]
    # Weights are those of train edges.
    assert store.edge_weight.tolist() == [5, 4, 2]
    assert store.val_edge_index.tolist() == [[1], [1]]
    assert store.test_edge_index.tolist() == [[0], [2]]
    assert data['user'].external_id == ['a', 'b', 'c']
    assert list(data['item'].external_id) == [0, 1, 2, 3]
    plain = build_data(made(), x)
    assert 'edge_weight' not in plain[EDGE_TYPE]
    assert 'external_id' not in plain['user']


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r'reach 3, .* have 3 rows only'):
        build_data(made(), {'image': torch.zeros(3, 2)})
    few = made()._replace(split=np.array([0, 0, 0, 0, 2]))
    with pytest.raises(ValueError, match=r'the validation split is empty'):
        build_data(few, {'image': torch.zeros(4, 2)})


def test_isolated_nodes_are_named_by_what_becomes_of_them():
    data = build_data(made(), {'image': torch.zeros(5, 2)})
    with pytest.warns(UserWarning, match='no train edge') as record:
        warn_isolated(data)
    [message] = [str(w.message) for w in record]
    assert message.startswith('2 of 5 items have no train edge (0 of them')
    assert 'validation, 1 test edges); only their features' in message
