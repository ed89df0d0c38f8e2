"""From a dataset's `HeteroData` to what models take."""

from pyg_sea.transforms.modal_knn_graph import ModalKNNGraph
from pyg_sea.transforms.model_inputs import model_inputs
from pyg_sea.transforms.read_knn_graph import read_knn_graph

__all__ = classes = [
    'ModalKNNGraph',
    'model_inputs',
    'read_knn_graph',
]
