"""FREEDOM, with separate learning of item features: the numbered lines are
all it takes. It shows how, not that it helps: on this generated catalogue both
rank alike.

python examples/plug_into_freedom.py
"""

import torch
from torch import Tensor
from torch_geometric import seed_everything

from pyg_sea.datasets import FakeMultimodal
from pyg_sea.evaluate import evaluate
from pyg_sea.loader import BPRLoader
from pyg_sea.nn import FREEDOM, ModalParts, SeparateLearning
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.transforms import ModalKNNGraph, model_inputs


def joined(parts: dict[str, ModalParts]) -> dict[str, Tensor]:
    return {name: torch.cat(pair, dim=1) for name, pair in parts.items()}


def run(use_parts: bool, num_epochs: int = 60) -> dict[str, float]:
    seed_everything(0)
    data = FakeMultimodal(transform=ModalKNNGraph(k=10))[0]
    store = data['user', 'buys', 'item']
    num_users, num_items = data['user'].num_nodes, data['item'].num_nodes
    inputs = model_inputs(data)
    modal_x = inputs.pop('modal_x')

    sizes = {name: x.size(1) for name, x in modal_x.items()}
    separate = SeparateLearning(sizes)  # (1) parts as wide as the features
    model = FREEDOM(num_users, num_items, sizes, lambda_modal=0.1)
    parameters = [*model.parameters(), *separate.parameters()]  # (2)
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    loader = BPRLoader(store.edge_index, num_users, num_items)

    x = modal_x
    for _ in range(num_epochs):
        for triplets in loader:
            if use_parts:
                parts = separate.split(modal_x)  # (3)
                x = joined(parts)  # (4) in place of the features
            loss, _ = model.loss(x, triplets=triplets, **inputs)
            if use_parts:
                loss = loss + separate.loss(parts)[0]  # (5)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with torch.no_grad():  # The features only shape the training of FREEDOM.
        out = model.eval().get_embedding(modal_x, **inputs)
    scorer = EmbeddingScorer(*out.split([num_users, num_items]))
    return evaluate(scorer, store.val_edge_index, store.edge_index)


if __name__ == '__main__':
    for use_parts in (False, True):
        name = 'FREEDOM + separate learning' if use_parts else 'FREEDOM'
        metrics = run(use_parts)
        print(f'{name:30}', {k: round(v, 4) for k, v in metrics.items()})
