"""Mini-batches for training."""

from pyg_sea.loader.bpr_loader import BPRLoader

__all__ = ['BPRLoader']

classes = __all__
