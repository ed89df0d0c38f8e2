"""Small catalogues, and models with random weights."""

import torch
from torch_geometric.data import HeteroData

from pyg_sea import Recommender
from pyg_sea.nn import SEA
from pyg_sea.transforms import ModalKNNGraph

U = 30
I = 40  # noqa: E741
WIDTHS = {'image': 9, 'text': 7, 'audio.v1': 5}


def make_data(num_modalities=2, graph=True, weighted=False, degree=6):
    generator = torch.Generator().manual_seed(3)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = U, I
    for name, width in list(WIDTHS.items())[:num_modalities]:
        data['item'][f'x_{name}'] = torch.randn(I, width, generator=generator)
    # Item 39 has no users.
    choice = torch.rand(U, I - 1, generator=generator).argsort()[:, :degree]
    user = torch.arange(U).repeat_interleave(degree)
    store = data['user', 'buys', 'item']
    store.edge_index = torch.stack([user, choice.flatten()])
    if weighted:
        store.edge_weight = 1 + torch.rand(user.numel(), generator=generator)
    return make_graph(num_modalities)(data) if graph else data


def make_graph(num_modalities=2):
    weights = [0.3, 0.6, 0.2][:num_modalities]
    return ModalKNNGraph(4, dict(zip(WIDTHS, weights)))


def make_model(data, num_modalities=2, **kwargs):
    kwargs = {
        'hidden_channels': 8,
        'encoder_channels': 12,
        'id_channels': 6,
        'distance': 'negative_l2',
        **kwargs,
    }
    widths = dict(list(WIDTHS.items())[:num_modalities])
    model = SEA(U, I, widths, **kwargs)
    with torch.no_grad():
        model.encoder.user_weight.uniform_(0.2, 1.0)
        if model.ranking.item_bias is not None:
            model.ranking.item_bias.normal_(std=0.1)
    return model


def make_recommender(num_modalities=2, **kwargs):
    data = make_data(num_modalities)
    model = make_model(data, num_modalities, **kwargs)
    return Recommender.from_model(
        model,
        data,
        [f'user {i}' for i in range(U)],
        [1000 + i for i in range(I)],
        graph=make_graph(num_modalities),
    )
