"""Everything that `run.py` can train or evaluate, by name."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch_geometric.data import HeteroData

from pyg_sea.baselines import ContentKNN, Popularity
from pyg_sea.nn import FREEDOM, SEA, VBPR, Recommender, ReleasedSEA
from pyg_sea.recommend import Scorer
from pyg_sea.transforms import model_inputs

from .bpr_mf import BPRMF
from .controls import MispairedSEA, SplitBeforeSEA
from .lightgcn import LightGCN
from .mgcn import MGCN
from .plugged import FREEDOMSeparate, LightGCNSeparate, VBPRSeparate
from .softmax import LightGCNSoftmax, MGCNSoftmax


def popularity(data: HeteroData) -> Scorer:
    edge_index = data['user', 'buys', 'item'].edge_index
    return Popularity(edge_index, data['item'].num_nodes)


def content_knn(
    data: HeteroData,
    k: int = 10,
    weighted: bool = False,
    graph_weights: Mapping[str, float] | None = None,
) -> Scorer:
    edge_index = data['user', 'buys', 'item'].edge_index
    modal_x = model_inputs(data)['modal_x']
    num_users = data['user'].num_nodes
    weights = graph_weights if weighted else None
    return ContentKNN.from_features(edge_index, modal_x, num_users, k, weights)


#: Nothing to train: the same with every seed.
SCORERS: dict[str, Callable[..., Scorer]] = {
    'popularity': popularity,
    'content_knn': content_knn,
}

MODELS: dict[str, Callable[..., Recommender]] = {
    'bpr_mf': BPRMF,
    'lightgcn': LightGCN,
    'vbpr': VBPR,
    'freedom': FREEDOM,
    'mgcn': MGCN,
    'lightgcn_softmax': LightGCNSoftmax,
    'mgcn_softmax': MGCNSoftmax,
    'sea': SEA,
    'sea_no_losses': partial(SEA, alpha=0.0, beta=0.0),
    'sea_paper': SEA.paper,
    'released_sea': ReleasedSEA,
    'vbpr_separate': VBPRSeparate,
    'freedom_separate': FREEDOMSeparate,
    'lightgcn_separate': LightGCNSeparate,
    'sea_split_before': SplitBeforeSEA,
    'sea_mispaired': MispairedSEA,
}

#: Recommenders with separate learning, and without.
PLUGGED: dict[str, str] = {
    'vbpr_separate': 'vbpr',
    'freedom_separate': 'freedom',
    'lightgcn_separate': 'lightgcn',
}

#: Not recommenders to choose from, but what `controls.py` holds against
#: `sea`, with its settings.
CONTROLS = ('sea_split_before', 'sea_mispaired')

#: How models are trained unless `--set` says otherwise.
TRAIN: dict[str, Any] = {
    'lr': 1e-3,
    'batch_size': 2048,
    'weight_decay': 0.0,
    'gradient_clip_val': None,
    'patience': 20,
    'max_epochs': 1000,
}

#: The learning rate of the SEA paper and of its code.
TRAIN_OF: dict[str, dict[str, Any]] = {
    'sea_paper': {'lr': 1e-4},
    'released_sea': {'lr': 1e-4},
}

# Arguments that the catalogue decides, not `--set`.
FROM_DATA = (
    *('data', 'num_users', 'num_items', 'in_channels'),
    *('item_graphs', 'graph_weights'),
)


def resolve(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a model, `{'model': ..., 'train': ...}`: those given,
    and the defaults of the others.

    Raises a `ValueError` for a model or a setting that does not exist.
    """
    if model not in SCORERS | MODELS:
        raise ValueError(
            f"'model' needs to be one of {sorted(SCORERS | MODELS)} "
            f'(got {model!r})'
        )
    trained = TRAIN | TRAIN_OF.get(model, {}) if model in MODELS else {}
    parameters = inspect.signature((SCORERS | MODELS)[model]).parameters
    own = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in FROM_DATA and parameter.kind != parameter.VAR_KEYWORD
    }
    if any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        known = {*trained, *own, *settings} - {*FROM_DATA}
    else:
        known = {*trained, *own}
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ValueError(
            f"'{model}' has no settings {unknown} (known: {sorted(own)}, and "
            f'for training {sorted(trained)})'
        )
    return {
        'model': own | {k: v for k, v in settings.items() if k not in trained},
        'train': {k: settings.get(k, v) for k, v in trained.items()},
    }


def build(
    model: str,
    settings: Mapping[str, Any],
    data: HeteroData,
    item_graphs: Callable[[], Any],
    graph_weights: Mapping[str, float] | None = None,
) -> Any:
    """A model, or a scorer if there is nothing to train.

    Args:
        model: Its name.
        settings: Its part of what :func:`resolve` returned.
        data: The catalogue.
        item_graphs: Makes the graphs of single modalities, for models that
            take them.
        graph_weights: What modalities weigh in the item-item graph.
    """
    make = (SCORERS | MODELS)[model]
    parameters = inspect.signature(make).parameters
    modal_x = model_inputs(data)['modal_x']
    given: dict[str, Callable[[], Any]] = {
        'data': lambda: data,
        'num_users': lambda: data['user'].num_nodes,
        'num_items': lambda: data['item'].num_nodes,
        'in_channels': lambda: {m: x.size(1) for m, x in modal_x.items()},
        'item_graphs': item_graphs,
        'graph_weights': lambda: graph_weights,
    }
    known = {n: value() for n, value in given.items() if n in parameters}
    return make(**known, **settings)
