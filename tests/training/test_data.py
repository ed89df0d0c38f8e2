import pytest
import torch

from pyg_sea.training import RecommenderDataModule

from .models import fake_data


def test_loaders():
    data = fake_data()
    datamodule = RecommenderDataModule(data, batch_size=100, seed=3)
    loader = datamodule.train_dataloader()
    assert len(loader) == 5
    assert loader.seed == 3
    store = data['user', 'buys', 'item']
    [val] = datamodule.val_dataloader()
    assert torch.equal(val, store.val_edge_index)
    [test] = datamodule.test_dataloader()
    assert torch.equal(test, store.test_edge_index)


def test_state_continues_the_sampler():
    data = fake_data()
    first = RecommenderDataModule(data, batch_size=100)
    assert first.state_dict() == {}
    loader = first.train_dataloader()
    list(loader)
    second = RecommenderDataModule(data, batch_size=100)
    second.load_state_dict(first.state_dict())
    for a, b in zip(loader, second.train_dataloader(), strict=True):
        assert torch.equal(a, b)


def test_users_without_train_edges():
    data = fake_data()
    store = data['user', 'buys', 'item']
    store.edge_index = store.edge_index[:, store.edge_index[0] != 7]
    datamodule = RecommenderDataModule(data)
    with pytest.warns(UserWarning, match='1 users without a train edge'):
        [val] = datamodule.val_dataloader()
    assert torch.equal(
        val, store.val_edge_index[:, [*range(14), *range(16, 120)]]
    )


def test_missing_edges():
    data = fake_data()
    del data['user', 'buys', 'item'].val_edge_index
    with pytest.raises(
        ValueError, match=r"held-out edges .* in 'val_edge_index'"
    ):
        RecommenderDataModule(data).val_dataloader()
    data['user', 'views', 'item'].edge_index = torch.zeros(2, 1).long()
    with pytest.raises(ValueError, match="'edge_type' needs to name"):
        RecommenderDataModule(data)
    with pytest.raises(ValueError, match="'edge_type' needs to name"):
        RecommenderDataModule(data, edge_type=('user', 'rents', 'item'))
    datamodule = RecommenderDataModule(
        data, edge_type=('user', 'buys', 'item')
    )
    assert datamodule.store.edge_index.size(1) == 480
