from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyg_sea.runs._data import DEMO, find_modalities, find_name, prepared
from pyg_sea.runs._models import MODELS, check_settings

# What `pyg_sea.training.train` takes from the settings of a run.
_TRAIN = {
    'max_epochs': 1000,
    'patience': 20,
    'batch_size': 2048,
    'precision': '32-true',
}


def make_settings(
    folder: str | Path,
    model: str = 'SEA',
    model_settings: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    modalities: Mapping[str, str] | None = None,
    normalize: str | None = None,
    weight: str | None = None,
    k: int = 10,
    graph_weights: Mapping[str, float] | None = None,
    lr: float | None = None,
    seed: int = 0,
    **train: Any,
) -> dict[str, Any]:
    """Everything that decides a run, as it stands in `run.json`.

    Args:
        folder: A folder in the format of
            :class:`~pyg_sea.datasets.MMRecDataset`, or `'demo'` for
            :class:`~pyg_sea.datasets.FakeMultimodal`.
        model: `'SEA'`, `'SEA.paper'`, `'ReleasedSEA'`, `'VBPR'` or
            `'FREEDOM'` (default: `'SEA'`).
        model_settings: Arguments of the model (default: `None`).
        name: The name of the catalogue (default: `None`, that of the only
            `.inter` file in `folder`).
        modalities: Modality names and their files in `folder`
            (default: `None`, those that 'pyg-sea prepare' wrote, if it did,
            else all `<modality>_feat.npy`).
        normalize: `'l2'`, `'standard'` or `'none'` (default: `None`,
            `'standard'` for `'SEA'` and `'none'` for others).
        weight: The column of interaction weights (default: `None`, the one
            that 'pyg-sea prepare' wrote, if it did).
        k: Neighbours per modality in the graph of similar items
            (default: 10).
        graph_weights: The weights of modalities there (default: `None`,
            equal ones).
        lr: Adam's learning rate (default: `None`, 1e-3; for `'SEA.paper'`
            and `'ReleasedSEA'` 1e-4).
        seed: Decides all that is drawn (default: 0).
        **train: `max_epochs` (1000), `patience` (20), `batch_size` (2048)
            and `precision` (`'32-true'`) of :func:`~pyg_sea.training.train`.

    Raises a `ValueError` or `FileNotFoundError` if there is no such model or
    folder, or an argument does not fit it.

    Example:
        >>> from pyg_sea.runs import make_settings
        >>> settings = make_settings('demo', max_epochs=5)
        >>> settings['model']
        {'name': 'SEA', 'settings': {}}
        >>> settings['train']['max_epochs'], settings['train']['lr']
        (5, 0.001)
    """
    check_settings(model, model_settings or {})
    unknown = [key for key in train if key not in _TRAIN]
    if unknown:
        raise ValueError(
            f"'train' needs to hold some of {list(_TRAIN)} (got {unknown})"
        )
    return {
        'data': {
            **_catalogue(
                folder, name, modalities, normalize, weight, MODELS[model]
            ),
            'k': k,
            'graph_weights': None if not graph_weights else {**graph_weights},
        },
        'model': {'name': model, 'settings': dict(model_settings or {})},
        'train': {
            'lr': MODELS[model].lr if lr is None else lr,
            **_TRAIN,
            **train,
            'seed': seed,
        },
    }


def _catalogue(
    folder: str | Path,
    name: str | None,
    modalities: Mapping[str, str] | None,
    normalize: str | None,
    weight: str | None,
    model: Any,
) -> dict[str, Any]:
    if str(folder) == DEMO:
        given = {
            'name': name,
            'modalities': modalities or None,
            'normalize': normalize,
            'weight': weight,
        }
        wrong = [key for key, value in given.items() if value is not None]
        if wrong:
            raise ValueError(
                f"generated data, 'demo', take no {wrong}: leave these out"
            )
        return {
            'folder': DEMO,
            'name': None,
            'modalities': None,
            'normalize': None,
            'weight': None,
        }
    if normalize not in (None, 'l2', 'standard', 'none'):
        raise ValueError(
            "'normalize' needs to be 'l2', 'standard' or 'none' (got "
            f'{normalize!r})'
        )
    how = model.normalize if normalize is None else normalize
    path = Path(folder).expanduser().absolute()
    name = find_name(path, name)
    return {
        'folder': str(path),
        'name': name,
        'modalities': dict(modalities or find_modalities(path)),
        'normalize': None if how == 'none' else how,
        'weight': weight or (prepared(path) or {}).get('weight'),
    }
