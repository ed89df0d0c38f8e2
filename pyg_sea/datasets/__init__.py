"""Catalogues as `HeteroData`: users, items and their modalities."""

from pyg_sea.datasets.amazon import AmazonMultimodal
from pyg_sea.datasets.fake import FakeMultimodal
from pyg_sea.datasets.mmrec import MMRecDataset
from pyg_sea.datasets.tables import from_pandas

__all__ = classes = [
    'AmazonMultimodal',
    'FakeMultimodal',
    'MMRecDataset',
    'from_pandas',
]
