import torch
from torch import nn
from torch_geometric.data import HeteroData
from torch_geometric.nn import LightGCN


class TinyModel(nn.Module):
    """LightGCN plus a projection of the features, behind dropout."""

    def __init__(self, num_users, num_items, in_channels, channels=8):
        super().__init__()
        self.num_users, self.num_items = num_users, num_items
        num_nodes = num_users + num_items
        self.gcn = LightGCN(num_nodes, channels, num_layers=1)
        self.lin = nn.Linear(in_channels, channels)
        self.register_buffer('num_backward', torch.tensor(0))

    def get_embedding(self, modal_x, edge_index, edge_weight=None, **kwargs):
        x = self.gcn.get_embedding(edge_index, edge_weight)
        user, item = x.split([self.num_users, self.num_items])
        item = item + self.lin(modal_x['text'])
        return nn.functional.dropout(
            torch.cat([user, item]), 0.1, self.training
        )

    def loss(self, modal_x, edge_index, triplets, **kwargs):
        x = self.get_embedding(modal_x, edge_index, **kwargs)
        user, positive, negative = triplets
        x_user = x[user]
        margin = (
            x_user * (x[self.num_users + positive])
            - x_user * (x[self.num_users + negative])
        ).sum(-1)
        bpr = -nn.functional.logsigmoid(margin).mean()
        norm = x.pow(2).mean()
        return bpr + 0.01 * norm, {'bpr': bpr, 'norm': norm}

    def after_backward(self):
        assert self.lin.weight.grad is not None
        self.num_backward += 1


def fake_data(num_users=60, num_items=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_items, 6, generator=generator)
    taste = torch.randn(num_users, 6, generator=generator)
    noise = torch.rand(num_users, num_items, generator=generator)
    ranking = (taste @ x.t() - (-noise.log()).log()).topk(12).indices
    split = torch.rand(num_users, 12, generator=generator).argsort()
    user = torch.arange(num_users).unsqueeze(1).expand(-1, 12)
    pairs = torch.stack([user, ranking.gather(1, split)])

    data = HeteroData()
    data['user'].num_nodes = num_users
    data['item'].num_nodes = num_items
    data['item'].x_text = x
    store = data['user', 'buys', 'item']
    store.edge_index = pairs[:, :, :8].flatten(1)
    store.val_edge_index = pairs[:, :, 8:10].flatten(1)
    store.test_edge_index = pairs[:, :, 10:].flatten(1)
    return data


def tiny_model(seed=0):
    torch.manual_seed(seed)
    return TinyModel(60, 40, 6)
