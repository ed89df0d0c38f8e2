import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

import pyg_sea
from pyg_sea.runs._catalogue import Catalogue
from pyg_sea.runs._data import load_data
from pyg_sea.runs._files import read_json, write_json
from pyg_sea.runs._models import build_model
from pyg_sea.runs.run import (
    CATALOGUE,
    FORMAT,
    RECOMMENDER,
    Run,
    load_weights,
)
from pyg_sea.serving import Recommender
from pyg_sea.transforms._modal_x import modal_features
from pyg_sea.transforms.model_inputs import model_inputs

# A run may be prolonged; whatever else changes makes it another one.
_MAY_CHANGE = ('max_epochs', 'patience')


def train_run(
    settings: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    resume: bool = False,
    data: HeteroData | None = None,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    progress: bool = True,
    **kwargs: Any,
) -> Run:
    """Trains a model, evaluates it beside baselines, and leaves a run folder:
    `run.json` at once, checkpoints and `metrics.csv` with every epoch, the
    recommender at the end, and `metrics.json` as the last.

    Args:
        settings: What :func:`make_settings` returns.
        path: The run folder to write.
        resume: Whether to go on with what an interrupted run left there, if
            it did, with the result of one that never stopped; see
            :func:`~pyg_sea.training.train` (default: `False`).
        data: The data of the settings, if they are loaded already
            (default: `None`).
        baselines: Test metrics of baselines, if they are known already
            (default: `None`).
        progress: Whether to show a progress bar (default: `True`).
        **kwargs: Further arguments of :func:`~pyg_sea.training.train`, which
            do not decide the result, such as `accelerator`.

    Shapes:
        - data: as in :class:`~pyg_sea.datasets.MMRecDataset`, with the graph
          of :class:`~pyg_sea.transforms.ModalKNNGraph`

    Raises a `FileExistsError` if there is a run already and `resume` is not
    set, a `ValueError` if it has other settings (but for `max_epochs`, of
    which it needs as many as it has trained, and `patience`) or its data
    have changed since, and what loading and training raise.

    Example:
        >>> import tempfile
        >>> from pyg_sea.runs import make_settings, train_run
        >>> settings = make_settings('demo', 'VBPR', max_epochs=1)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     run = train_run(settings, root, progress=False)
        ...     list(run.metrics['baselines'])
        ['popularity', 'content k-NN']
    """
    # Training needs Lightning, what else is done with a run does not.
    from pyg_sea.training import train

    folder = Path(path).expanduser().absolute()
    content = {'format': FORMAT, 'pyg_sea': pyg_sea.__version__, **settings}
    _check_folder(folder, content, resume)
    if data is None:
        data = load_data(settings['data'])
    seed_everything(settings['train']['seed'])
    model = build_model(**settings['model'], data=data)
    if resume and (folder / 'last.ckpt').is_file():
        _check_last(folder / 'last.ckpt', model, settings)
    # Not before: what cannot even start leaves no run behind, and one that
    # cannot go on stays as it is.
    write_json(folder / 'run.json', content)
    (folder / 'metrics.json').unlink(missing_ok=True)
    result = train(
        model,
        data,
        folder,
        **settings['train'],
        resume=resume,
        progress=progress,
        **kwargs,
    )
    Recommender.from_model(model.cpu(), data).save(folder / RECOMMENDER)
    modalities = list(modal_features(data))
    catalogue = Catalogue.of_data(settings['data'], modalities)
    catalogue.save(folder / CATALOGUE)
    if baselines is None:
        baselines = evaluate_baselines(data)
    write_json(
        folder / 'metrics.json',
        {
            'best_epoch': result.best_epoch,
            'epochs': result.num_epochs,
            # Of all sessions, not of the last one.
            'seconds': sum(row['seconds'] for row in result.history),
            'validation': result.val,
            'test': result.test,
            'baselines': dict(baselines),
        },
    )
    return Run.open(folder)


def evaluate_baselines(
    data: HeteroData, part: str = 'test', **kwargs: Any
) -> dict[str, dict[str, float]]:
    """Evaluate what a model has to beat.

    Args:
        data: Features, train edges and held-out edges.
        part: `'test'` or `'val'` (default: `'test'`).
        **kwargs: Arguments of :func:`~pyg_sea.evaluate.evaluate`.
    """
    # Metrics take seconds to import, for which no other command has to wait.
    from pyg_sea.baselines import ContentKNN, Popularity
    from pyg_sea.evaluate import evaluate

    inputs = model_inputs(data)
    store = data['user', 'buys', 'item']
    train, held_out = store.edge_index, store[f'{part}_edge_index']
    num_users, num_items = data['user'].num_nodes, data['item'].num_nodes
    scorers: dict[str, Any] = {
        'popularity': Popularity(train, num_items),
        'content k-NN': ContentKNN.from_features(
            train, inputs['modal_x'], num_users
        ),
    }
    return {
        name: evaluate(scorer, held_out, train, **kwargs)
        for name, scorer in scorers.items()
    }


def _check_folder(
    folder: Path, content: Mapping[str, Any], resume: bool
) -> None:
    path = folder / 'run.json'
    if not path.exists():
        if folder.exists() and not (
            folder.is_dir() and not any(folder.iterdir())
        ):
            raise FileExistsError(
                f"'{folder}' is there already and no run folder: choose "
                'another one'
            )
        return
    if not resume:
        raise FileExistsError(
            f"'{folder}' holds a run already: go on with it ('resume'), or "
            'choose another folder'
        )
    found = read_json(path)
    for part in ('data', 'model', 'train'):
        old, new = found.get(part, {}), content[part]
        for key in (*old, *new):
            if key in _MAY_CHANGE or old.get(key) == new.get(key):
                continue
            raise ValueError(
                f"the run in '{folder}' was started with other settings: "
                f"'{key}' was {old.get(key)!r} (got {new.get(key)!r}). Repeat "
                'the settings it was started with, or choose another folder'
            )


def _check_last(path: Path, model: Any, settings: Mapping[str, Any]) -> None:
    num_epochs = load_weights(model, path, settings) + 1
    wanted = settings['train']['max_epochs']
    if num_epochs > wanted:
        raise ValueError(
            f"'max_epochs' needs to be at least {num_epochs}, as many as the "
            f"run in '{path.parent}' has trained (got {wanted}). Raise it, or "
            'choose another folder'
        )
