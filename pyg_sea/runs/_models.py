"""The models that a run may train."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, NamedTuple

from torch_geometric.data import HeteroData

from pyg_sea.nn import (
    FREEDOM,
    SEA,
    VBPR,
    Recommender,
    ReleasedSEA,
    SeparateLearning,
)
from pyg_sea.transforms._modal_x import modal_features

# What the data say, and what follows from other settings.
_NOT_SET = ('num_users', 'num_items', 'in_channels', 'unique_channels')


class Model(NamedTuple):
    """How a model is made, unless told otherwise trained, and whose arguments
    its settings are.
    """

    make: Callable[..., Recommender]
    lr: float
    normalize: str | None
    takes: tuple[Callable[..., Any], ...]

    @property
    def settings(self) -> list[str]:
        """The names of its settings."""
        names = [
            name
            for function in self.takes
            for name, parameter in signature(function).parameters.items()
            if parameter.kind is not Parameter.VAR_KEYWORD
        ]
        return [name for name in dict.fromkeys(names) if name not in _NOT_SET]


# The presets train as the paper and the released code do.
MODELS = {
    'SEA': Model(SEA, 1e-3, 'standard', (SEA, SeparateLearning)),
    'SEA.paper': Model(SEA.paper, 1e-4, None, (SEA, SeparateLearning)),
    'ReleasedSEA': Model(ReleasedSEA, 1e-4, None, (ReleasedSEA,)),
    'VBPR': Model(VBPR, 1e-3, None, (VBPR,)),
    'FREEDOM': Model(FREEDOM, 1e-3, None, (FREEDOM,)),
}


def check_name(name: str) -> None:
    """Refuse the name of no model."""
    if name not in MODELS:
        raise ValueError(
            f"'model' needs to be one of {list(MODELS)} (got {name!r})"
        )


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that a model does not have."""
    check_name(name)
    known = MODELS[name].settings
    for key in settings:
        if key not in known:
            raise ValueError(
                f"'model_settings' holds '{key}', which is no setting of the "
                f"model '{name}'. Those are: {', '.join(known)}"
            )


def build_model(
    name: str, settings: Mapping[str, Any], data: HeteroData
) -> Recommender:
    """Return a new model for the sizes of `data`.

    Raises a `ValueError` if the settings do not fit the model.
    """
    check_settings(name, settings)
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
