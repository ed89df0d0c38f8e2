import os
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class _FolderCheckpoint(ModelCheckpoint):
    # Lightning keeps absolute paths in its state and forgets the best value
    # when the folder has been moved.

    def state_dict(self) -> dict[str, Any]:
        return self._in_folder(super().state_dict(), '')

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(self._in_folder(state_dict, str(self.dirpath)))
        self.current_score = state_dict['current_score']  # Lightning forgets.

    @staticmethod
    def _in_folder(state: dict[str, Any], folder: str) -> dict[str, Any]:
        def place(path: str) -> str:
            name = os.path.basename(path)
            return os.path.join(folder, name) if name else ''

        return {
            **state,
            'dirpath': folder,
            'best_model_path': place(state['best_model_path']),
            'kth_best_model_path': place(state['kth_best_model_path']),
            'last_model_path': place(state['last_model_path']),
            'best_k_models': {
                place(path): score
                for path, score in state['best_k_models'].items()
            },
        }


class BestCheckpoint(_FolderCheckpoint):
    """Keeps the weights of the epoch with the strictly greatest value in
    `best.ckpt`.

    Args:
        dirpath: The folder to write to.
        monitor: The logged quantity (default: `'val/recall@20'`).

    Example:
        >>> from pyg_sea.training import BestCheckpoint
        >>> BestCheckpoint('runs/baby').filename
        'best'
    """

    def __init__(
        self,
        dirpath: str | Path,
        monitor: str = 'val/recall@20',
    ) -> None:
        super().__init__(
            dirpath,
            filename='best',
            monitor=monitor,
            mode='max',
            save_weights_only=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )


class LastCheckpoint(_FolderCheckpoint):
    """Keeps all that a run needs to continue in `last.ckpt`: after the first
    and the last epoch, and in between as often as writing takes no more than
    a share of the time.

    Args:
        dirpath: The folder to write to.
        overhead: The share of the time to spend on writing (default: 0.05).

    Example:
        >>> from pyg_sea.training import LastCheckpoint
        >>> LastCheckpoint('runs/baby').filename
        'last'
    """

    def __init__(self, dirpath: str | Path, overhead: float = 0.05) -> None:
        super().__init__(
            dirpath,
            filename='last',
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.overhead = overhead
        self._not_before = 0.0

    def on_train_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Writes the checkpoint if it is time to."""
        ending = trainer.should_stop or (
            trainer.current_epoch + 1 == trainer.max_epochs
        )
        start = time.perf_counter()
        # By the clock of one process: to write, all of them have to come.
        if trainer.strategy.broadcast(start < self._not_before and not ending):
            return
        super().on_train_epoch_end(trainer, pl_module)
        end = time.perf_counter()
        wait = (end - start) / self.overhead if self.overhead > 0 else 0.0
        self._not_before = end + wait
