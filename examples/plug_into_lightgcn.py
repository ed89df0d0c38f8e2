"""PyG's own LightGCN, with separate learning of item features: the numbered
lines are all it takes.

python examples/plug_into_lightgcn.py
"""

import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.nn import LightGCN

from pyg_sea.datasets import FakeMultimodal
from pyg_sea.evaluate import evaluate
from pyg_sea.loader import BPRLoader
from pyg_sea.nn import ModalParts, SeparateLearning
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.transforms import model_inputs


def run(use_features: bool, num_epochs: int = 60) -> dict[str, float]:
    seed_everything(0)
    data = FakeMultimodal()[0]
    store = data['user', 'buys', 'item']
    num_users, num_items = data['user'].num_nodes, data['item'].num_nodes
    inputs = model_inputs(data)
    modal_x, edge_index = inputs['modal_x'], inputs['edge_index']

    model = LightGCN(num_users + num_items, 64, num_layers=2)
    sizes = {name: x.size(1) for name, x in modal_x.items()}
    separate = SeparateLearning(sizes, 16, 16)  # (1) 4 parts of 16 channels
    parameters = [*model.parameters(), *separate.parameters()]  # (2)
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    loader = BPRLoader(store.edge_index, num_users, num_items)

    def embed(parts: dict[str, ModalParts]) -> tuple[Tensor, Tensor]:
        out = model.get_embedding(edge_index)
        user, item = out.split([num_users, num_items])
        if use_features:
            rows = [part for pair in parts.values() for part in pair]  # (3)
            item = item + torch.cat(rows, dim=-1)  # (4)
        return user, item

    for _ in range(num_epochs):
        for users, pos_items, neg_items in loader:
            parts = separate.split(modal_x)  # (5)
            user, item = embed(parts)
            pos = (user[users] * item[pos_items]).sum(dim=-1)
            neg = (user[users] * item[neg_items]).sum(dim=-1)
            loss = model.recommendation_loss(pos, neg, users)
            if use_features:
                loss = loss + separate.loss(parts)[0]  # (6)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with torch.no_grad():
        user, item = embed(separate.split(modal_x))  # (7)
    scorer = EmbeddingScorer(user, item)
    return evaluate(scorer, store.val_edge_index, store.edge_index)


if __name__ == '__main__':
    for use_features in (False, True):
        name = 'LightGCN + separate learning' if use_features else 'LightGCN'
        metrics = run(use_features)
        print(f'{name:30}', {k: round(v, 4) for k, v in metrics.items()})
