"""Training with Lightning, for any model of `pyg_sea`."""

try:
    import lightning  # noqa: F401
except ImportError as error:
    raise ImportError(
        "'pyg_sea.training' needs Lightning: "
        'pip install "pyg_sea[lightning]". Without it, a loop over '
        "'pyg_sea.loader.BPRLoader' does."
    ) from error

from pyg_sea.training.callbacks import (
    History,
    Patience,
    ProgressBar,
    RandomStates,
)
from pyg_sea.training.checkpoints import BestCheckpoint, LastCheckpoint
from pyg_sea.training.data import RecommenderDataModule
from pyg_sea.training.module import RecommenderModule
from pyg_sea.training.train import TrainResult, train

__all__ = [
    'BestCheckpoint',
    'History',
    'LastCheckpoint',
    'Patience',
    'ProgressBar',
    'RandomStates',
    'RecommenderDataModule',
    'RecommenderModule',
    'TrainResult',
    'train',
]

classes = __all__
