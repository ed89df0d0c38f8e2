"""The models that a run may train."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch_geometric.data import HeteroData

from pyg_sea.nn import FREEDOM, SEA, VBPR, Recommender, ReleasedSEA
from pyg_sea.transforms._modal_x import modal_features


class Model(NamedTuple):
    """How a model is made and, unless told otherwise, trained."""

    make: Callable[..., Recommender]
    lr: float
    normalize: str | None


# The presets train as the paper and the released code do.
MODELS = {
    'SEA': Model(SEA, 1e-3, 'standard'),
    'SEA.paper': Model(SEA.paper, 1e-4, None),
    'ReleasedSEA': Model(ReleasedSEA, 1e-4, None),
    'VBPR': Model(VBPR, 1e-3, None),
    'FREEDOM': Model(FREEDOM, 1e-3, None),
}


def check_name(name: str) -> None:
    """Refuse the name of no model."""
    if name not in MODELS:
        raise ValueError(
            f"'model' needs to be one of {list(MODELS)} (got {name!r})"
        )


def build_model(
    name: str, settings: Mapping[str, Any], data: HeteroData
) -> Recommender:
    """Return a new model for the sizes of `data`.

    Raises a `ValueError` if the settings do not fit the model.
    """
    check_name(name)
    sizes = data['user'].num_nodes, data['item'].num_nodes
    modal_x = modal_features(data)
    in_channels = {key: x.size(1) for key, x in modal_x.items()}
    try:
        return MODELS[name].make(*sizes, in_channels, **settings)
    except TypeError as error:
        raise ValueError(
            f"the settings {dict(settings)} do not fit the model '{name}': "
            f'{error}'
        ) from error
