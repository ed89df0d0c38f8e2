import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch_geometric.data import HeteroData

from pyg_sea.nn import Recommender as Model
from pyg_sea.runs._data import load_data
from pyg_sea.runs._files import read_json
from pyg_sea.runs._models import build_model
from pyg_sea.serving import Recommender

FORMAT = 1
RECOMMENDER = 'recommender'
CATALOGUE = 'items'


class Run:
    """The folder that a training left: settings, curves, metrics, weights and
    a recommender. It is made by :func:`train_run` and read by :meth:`open`.

    ======================  =================================================
    `run.json`              the settings, see :func:`make_settings`
    `metrics.csv`           one row per epoch: losses, validation, seconds
    `best.ckpt`             the weights of the best epoch
    `last.ckpt`             what an interrupted training goes on from
    `recommender/`          what :meth:`pyg_sea.Recommender.load` reads
    `items/`                titles, and how features of new items are made
    `metrics.json`          best epoch, validation and test, baselines
    ======================  =================================================

    Args:
        path: The folder.
        settings: What `run.json` holds.
        metrics: What `metrics.json` holds.

    Example:
        >>> import tempfile
        >>> from pyg_sea.runs import Run, make_settings, train_run
        >>> settings = make_settings('demo', 'VBPR', max_epochs=1)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = train_run(settings, root, progress=False)
        ...     run = Run.open(root)
        ...     model, recommender = run.model(), run.recommender()
        >>> recommender
        Recommender(users=2000, items=1000, dim=129)
        >>> list(run.metrics)
        ['best_epoch', 'epochs', 'seconds', 'validation', 'test', 'baselines']
        >>> model.training
        False
    """

    def __init__(
        self, path: Path, settings: dict[str, Any], metrics: dict[str, Any]
    ) -> None:
        self.path = path
        self.settings = settings
        self.metrics = metrics

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> 'Run':
        """Reads what a training left.

        Args:
            path: The run folder.

        Raises a `FileNotFoundError` or a `ValueError` that says what to do
        if there is no such folder, it is no run, was written by another
        version, or its training has not come to its end.
        """
        folder = Path(path).expanduser().absolute()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"the run folder '{folder}' does not exist: 'pyg-sea train' "
                'makes one'
            )
        if not (folder / 'run.json').is_file():
            grown = (folder / RECOMMENDER).is_dir()
            raise FileNotFoundError(
                f"'{folder}' is no run folder: it has no 'run.json'. "
                + (
                    "'pyg-sea add-items' wrote it: name the run behind it"
                    if grown
                    else "'pyg-sea train' makes one"
                )
            )
        settings = read_json(folder / 'run.json')
        if settings.get('format') != FORMAT:
            raise ValueError(
                f"'{folder}' has format {settings.get('format')}, written by "
                f'pyg_sea {settings.get("pyg_sea")}; this version reads '
                f'format {FORMAT}: install the other one, or train anew'
            )
        if not (folder / 'metrics.json').is_file():
            raise ValueError(
                f"the training in '{folder}' has not come to its end: repeat "
                "its 'pyg-sea train' with --resume"
            )
        return cls(folder, settings, read_json(folder / 'metrics.json'))

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch: `epoch`, `step`, `seconds`, `train/...` and
        `val/...`.
        """
        return pd.read_csv(self.path / 'metrics.csv')

    def data(self) -> HeteroData:
        """Loads the data, with the graph of similar items and the
        `external_id` of users and items.
        """
        return load_data(self.settings['data'])

    def model(self, data: HeteroData | None = None) -> Model:
        """Returns the trained model, in eval mode, with the weights of the
        best epoch.

        Args:
            data: What :meth:`data` returned, if it was called already
                (default: `None`).

        Raises a `ValueError` if the data have changed since.
        """
        data = self.data() if data is None else data
        model = build_model(**self.settings['model'], data=data)
        load_weights(model, self.path / 'best.ckpt', self.settings)
        return model.eval()

    def recommender(self) -> Recommender:
        """Loads the recommender."""
        return Recommender.load(self.path / RECOMMENDER)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({str(self.path)!r})'


def load_weights(model: Model, path: Path, settings: Mapping[str, Any]) -> int:
    """Load what a training has kept into a model.

    Args:
        model: A model as it was trained.
        path: `best.ckpt` or `last.ckpt` of a run.
        settings: The settings of the run.

    Returns the epoch, from 0. Raises a `ValueError` if the file cannot be
    read, or the data have changed since.
    """
    try:
        state = torch.load(
            path, map_location='cpu', weights_only=True, mmap=True
        )
    except (
        EOFError,
        OSError,
        RuntimeError,
        pickle.UnpicklingError,
    ) as error:
        raise ValueError(
            f"'{path}' cannot be read, it is cut short or was changed: "
            f'{error}. Train anew'
        ) from error
    weights = {
        key.removeprefix('model.'): x for key, x in state['state_dict'].items()
    }
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"the weights in '{path.parent}' do not fit the data in "
            f"'{settings['data']['folder']}', which must have changed since: "
            f'{error}. Train anew'
        ) from error
    return int(state['epoch'])
