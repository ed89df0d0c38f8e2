import contextlib
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_sea._count import check_count
from pyg_sea.training.callbacks import (
    History,
    Patience,
    ProgressBar,
    RandomStates,
)
from pyg_sea.training.checkpoints import BestCheckpoint, LastCheckpoint
from pyg_sea.training.data import RecommenderDataModule
from pyg_sea.training.module import RecommenderModule


@dataclass
class TrainResult:
    """What :func:`train` found.

    Args:
        best_epoch: The epoch with the best monitored value, from 0.
        val: The validation metrics of that epoch.
        test: The test metrics of that epoch.
        num_epochs: The number of epochs trained, earlier sessions included.
        seconds: The wall time of this session.
        history: One row per epoch: losses, validation metrics, seconds.

    Example:
        >>> from pyg_sea.training import TrainResult
        >>> TrainResult(3, {'recall@20': 0.11}, {'recall@20': 0.1}, 8, 1.5)
        TrainResult(best_epoch=3, val={'recall@20': 0.11}, test={'recall@20': \
0.1}, num_epochs=8, seconds=1.5)
    """

    best_epoch: int
    val: dict[str, float]
    test: dict[str, float]
    num_epochs: int
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list, repr=False)


def train(
    model: Any,
    data: HeteroData,
    out: str | os.PathLike[str] | None = None,
    *,
    max_epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    patience: int = 20,
    monitor: str = 'recall@20',
    k: int | Sequence[int] = (10, 20),
    metrics: str | Sequence[str] = ('recall', 'ndcg'),
    seed: int | None = None,
    resume: bool = False,
    gradient_clip_val: float | None = None,
    precision: Any = '32-true',
    progress: bool = True,
    edge_type: EdgeType | None = None,
    features_on_device: bool = True,
    **kwargs: Any,
) -> TrainResult:
    """Trains a model with early stopping, loads the weights of its best epoch
    back into it, and evaluates these on the test edges.

    Launched in several processes by `torchrun`, with `devices=...` and
    `strategy='ddp'`, all of them share the work and get the same result, and
    the first one writes the files.

    Args:
        model: The model to train; see
            :class:`~pyg_sea.training.RecommenderModule`.
        data: Features, graph, train, validation and test edges.
        out: The folder for `best.ckpt`, `last.ckpt` and `metrics.csv`, which
            all processes can read (default: `None`, nothing is kept).
        max_epochs: The largest number of epochs (default: 1000).
        batch_size: Triplets per batch (default: 2048).
        lr: Adam's learning rate (default: 1e-3).
        weight_decay: Adam's weight decay (default: 0).
        patience: Epochs without a strictly greater validation metric after
            which to stop (default: 20).
        monitor: The validation metric to select the epoch by (default:
            `'recall@20'`).
        k: The cut-offs to evaluate (default: `(10, 20)`).
        metrics: One or several metrics (default: `('recall', 'ndcg')`).
        seed: Seeds Python, numpy and torch before the first epoch (default:
            `None`, they are taken as they are).
        resume: Whether to continue from `last.ckpt` in `out`, if it is there
            (default: `False`). On CPU the result is, bit for bit, that of a
            run that was never interrupted.
        gradient_clip_val: The largest norm of the gradient (default: `None`,
            no clipping).
        precision: Lightning's precision flag, e.g. `'bf16-mixed'` (default:
            `'32-true'`).
        progress: Whether to show a progress bar (default: `True`).
        edge_type: The type of the train edges (default: `None`, the only type
            from `'user'` to `'item'`).
        features_on_device: Whether features move to the device; see
            :class:`~pyg_sea.training.RecommenderModule` (default: `True`).
        **kwargs: Further arguments of :class:`lightning.pytorch.Trainer`,
            e.g. `accelerator`, `devices`, `strategy`.

    Shapes:
        - `data['item']['x_<modality>']`: `[I, width]`
        - the train edges' `edge_index`: `[2, E]`, with or without
          `edge_weight` `[E]`; `val_edge_index` and `test_edge_index`: `[2, L]`

    Raises a `ValueError` if an argument or `data` does not fit, and a
    `FloatingPointError` naming epoch and step if a loss term, a weight or a
    score becomes NaN or inf; checkpoints then still hold the last good epoch.

    Example:
        >>> from pyg_sea.datasets import FakeMultimodal
        >>> from pyg_sea.nn import SEA
        >>> from pyg_sea.training import train
        >>> from pyg_sea.transforms import model_inputs
        >>> data = FakeMultimodal(num_users=50, num_items=40)[0]
        >>> modal_x = model_inputs(data)['modal_x']
        >>> model = SEA(50, 40, {m: x.size(1) for m, x in modal_x.items()})
        >>> result = train(model, data, max_epochs=2, progress=False)
        >>> result.num_epochs, list(result.test)[:2]
        (2, ['recall@10', 'recall@20'])
    """
    check_count('max_epochs', max_epochs)
    cutoffs = [k] if isinstance(k, int) else k
    metrics = [metrics] if isinstance(metrics, str) else metrics
    known = [f'{name}@{cutoff}' for name in metrics for cutoff in cutoffs]
    if monitor not in known:
        raise ValueError(
            f"'monitor' needs to be one of {known} (got {monitor!r})"
        )
    if resume and out is None:
        raise ValueError("'resume' needs 'out', the folder of the run")
    if seed is not None:
        seed_everything(seed)
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        if out is None:
            out = stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(out).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        last = folder / 'last.ckpt'

        module = RecommenderModule(
            model,
            data,
            lr,
            weight_decay,
            k,
            metrics,
            edge_type,
            features_on_device=features_on_device,
        )
        datamodule = RecommenderDataModule(
            data, batch_size, edge_type=edge_type
        )
        history = History(folder / 'metrics.csv')
        best = BestCheckpoint(folder, f'val/{monitor}')
        trainer = Trainer(
            max_epochs=max_epochs,
            precision=precision,
            gradient_clip_val=gradient_clip_val,
            logger=kwargs.pop('logger', False),
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=progress,
            inference_mode=False,
            callbacks=[
                RandomStates(),
                Patience(f'val/{monitor}', patience),
                *([ProgressBar()] if progress else []),
                history,
                best,
                LastCheckpoint(folder),
                *kwargs.pop('callbacks', []),
            ],
            **kwargs,
        )
        trainer.fit(
            module,
            datamodule=datamodule,
            ckpt_path=str(last) if resume and last.exists() else None,
            weights_only=True,
        )
        state = torch.load(
            best.best_model_path, map_location='cpu', weights_only=True
        )
        module.load_state_dict(state['state_dict'])
        [test] = trainer.test(module, datamodule=datamodule, verbose=False)

    row = next(r for r in history.rows if r['epoch'] == state['epoch'])
    return TrainResult(
        best_epoch=state['epoch'],
        val={name: row[f'val/{name}'] for name in known},
        test={name: test[f'test/{name}'] for name in known},
        num_epochs=len(history.rows),
        seconds=time.perf_counter() - start,
        history=history.rows,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Advertisements, and warnings that are none in a run like this.
    names = ('lightning.pytorch', 'lightning.fabric')
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                '.*LeafSpec.*',
                '.*exists and is not empty.*',
                '.*in eval mode at the start of training.*',
            ):
                warnings.filterwarnings('ignore', message)
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
