"""Run folders: what a training leaves, and how to get it back."""

from pyg_sea.runs.run import Run
from pyg_sea.runs.settings import make_settings
from pyg_sea.runs.train import train_run

__all__ = ['Run', 'make_settings', 'train_run']

classes = __all__
