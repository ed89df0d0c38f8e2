"""Catalogues in which items lack modalities, from features to a ranking."""

import math

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_sea.baselines import ContentKNN
from pyg_sea.datasets import FakeMultimodal
from pyg_sea.evaluate import evaluate
from pyg_sea.nn import FREEDOM, SEA, VBPR
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.training import train
from pyg_sea.transforms import ModalKNNGraph, model_inputs

U, I = 300, 200  # noqa: E741
MODALITIES = ('image', 'text')
BUYS = ('user', 'buys', 'item')


def catalogue(seed: int, share: float) -> HeteroData:
    """A share of each modality is missing, independent of the other."""
    data = FakeMultimodal(U, I, seed=seed)[0]
    generator = torch.Generator().manual_seed(seed)
    for name in MODALITIES:
        x = data['item'][f'x_{name}'].clone()
        x[torch.rand(I, generator=generator) < share] = 0
        data['item'][f'x_{name}'] = x
    return ModalKNNGraph(10)(data)


def recall(data: HeteroData, seed: int) -> float:
    model = SEA(U, I, dict.fromkeys(MODALITIES, 64))
    result = train(model, data, max_epochs=10, progress=False, seed=seed)
    assert all(p.isfinite().all() for p in model.parameters())
    assert all(b.isfinite().all() for b in model.buffers())
    return result.test['recall@20']


def test_training_loses_little():
    kept = []
    for seed in range(3):
        complete = recall(catalogue(seed, 0.0), seed)
        kept.append(recall(catalogue(seed, 0.3), seed) / complete)
    assert sum(kept) / 3 > 0.85


@pytest.mark.parametrize('make', [VBPR, FREEDOM])
def test_other_models_take_missing_modalities(make):
    data = catalogue(0, 0.3)
    model = make(U, I, dict.fromkeys(MODALITIES, 64))
    result = train(model, data, max_epochs=2, progress=False, seed=0)
    assert math.isfinite(result.test['recall@20'])


def test_content_knn_takes_missing_modalities():
    data = catalogue(0, 0.3)
    store = data[BUYS]
    modal_x = model_inputs(data)['modal_x']
    nothing = ~torch.cat([*modal_x.values()], dim=1).any(dim=1)
    assert nothing.any()
    scorer = ContentKNN.from_features(store.edge_index, modal_x, U)
    scores = scorer(torch.arange(U))
    assert scores.isfinite().all()
    assert (scores[:, nothing] == 0).all()
    found = evaluate(scorer, store.test_edge_index, store.edge_index)
    user, item = torch.randn(U, 2), torch.randn(I, 2)
    drawn = evaluate(
        EmbeddingScorer(user, item), store.test_edge_index, store.edge_index
    )
    assert found['recall@20'] > drawn['recall@20']
