import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Checkpoint,
    EarlyStopping,
    TQDMProgressBar,
)
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class RandomStates(Callback):
    """Keeps the random states of Python, numpy and torch in checkpoints and
    restores them, so that a resumed run draws what it would have drawn.
    Several processes all go on from the states of the first.

    Example:
        >>> import torch
        >>> from pyg_sea.training import RandomStates
        >>> callback = RandomStates()
        >>> callback.load_state_dict(callback.state_dict())
        >>> expected = torch.rand(2)
        >>> callback.on_train_start(None, None)
        >>> torch.equal(torch.rand(2), expected)
        True
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The random states, as tensors and plain Python."""
        version, internal, gauss = random.getstate()
        numpy_state: Any = np.random.get_state()  # noqa: NPY002
        name, keys, *rest = numpy_state
        state = {
            'python': [version, list(internal), gauss],
            'numpy': [name, torch.from_numpy(keys.astype(np.int64)), *rest],
            'torch': torch.get_rng_state(),
        }
        if torch.cuda.is_initialized():
            state['cuda'] = torch.cuda.get_rng_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the states to restore when training starts.

        Args:
            state_dict: The dictionary to restore.
        """
        self._state = state_dict

    def on_train_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Restores the states."""
        if not self._state:
            return
        version, internal, gauss = self._state['python']
        random.setstate((version, tuple(internal), gauss))
        name, keys, *rest = self._state['numpy']
        np.random.set_state(  # noqa: NPY002
            (name, keys.numpy().astype(np.uint32), *rest)
        )
        torch.set_rng_state(self._state['torch'])
        if torch.cuda.is_available() and 'cuda' in self._state:
            torch.cuda.set_rng_state(self._state['cuda'])
        self._state = {}


class Patience(EarlyStopping):
    """Lightning's early stopping on the largest value. A resumed run that has
    already been stopped stays so, unless it is given more patience.

    Args:
        monitor: The logged quantity (default: `'val/recall@20'`).
        patience: Evaluations without a strictly greater value to wait for
            (default: 20).

    Example:
        >>> from pyg_sea.training import Patience
        >>> Patience(patience=5).mode
        'max'
    """

    def __init__(
        self, monitor: str = 'val/recall@20', patience: int = 20
    ) -> None:
        super().__init__(monitor, patience=patience, mode='max')

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the count and the best value, not the patience.

        Args:
            state_dict: The dictionary to restore.
        """
        super().load_state_dict({**state_dict, 'patience': self.patience})

    def on_train_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Stops what had been stopped before."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class History(Checkpoint):
    """Keeps one row per epoch and writes them as a CSV file, with several
    processes in the first of them. The rows are part of the checkpoint, so
    that a resumed run continues the file.

    Args:
        path: The CSV file (default: `None`, rows are only kept).

    Example:
        >>> from pyg_sea.training import History
        >>> History().rows
        []
    """

    # Lightning's CSVLogger starts over on resume, and spreads an epoch over
    # two rows. A `Checkpoint`, because these run after all values are logged.

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.rows: list[dict[str, float]] = []
        self._start = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {'rows': [dict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues after the rows of the checkpoint.

        Args:
            state_dict: The dictionary to restore.
        """
        self.rows = [dict(row) for row in state_dict['rows']]

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Takes the time."""
        self._start = time.perf_counter()

    def on_train_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Adds a row and writes the file."""
        row = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
        }
        self.rows.append(
            {
                'epoch': trainer.current_epoch,
                'step': trainer.global_step,
                'seconds': time.perf_counter() - self._start,
                **dict(sorted(row.items())),
            }
        )
        if self.path is not None and trainer.is_global_zero:
            partial = self.path.with_name(self.path.name + '.partial')
            pd.DataFrame(self.rows).to_csv(partial, index=False)
            os.replace(partial, self.path)


class ProgressBar(TQDMProgressBar):
    """One bar per epoch, with the loss terms and the validation metrics.

    Args:
        refresh_rate: Steps between two updates (default: 10).

    Example:
        >>> from pyg_sea.training import ProgressBar
        >>> ProgressBar().refresh_rate
        10
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate)

    def get_metrics(
        self, trainer: Trainer, pl_module: Any
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The means of the loss terms looked at, and what else is logged."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop('v_num', None)
        return {**pl_module.terms.seen(), **metrics}

    def init_validation_tqdm(self) -> Tqdm:
        """No bar: validation is one batch."""
        return Tqdm(disable=True)

    def init_test_tqdm(self) -> Tqdm:
        """No bar: the test is one batch."""
        return Tqdm(disable=True)
