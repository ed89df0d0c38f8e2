r"""Layers, losses and models."""

from .conv import ItemGraphConv, ModalGCNConv
from .loss import (
    BPRLoss,
    CLUBLoss,
    NegativeL2Loss,
    SampledSoftmaxLoss,
    SoloSimLoss,
)
from .modal_graph_encoder import ModalGraphEncoder
from .models import FREEDOM, SEA, VBPR, Recommender, ReleasedSEA
from .separate_learning import SeparateLearning, SeparateLearningOutput
from .split import GenericUniqueSplit, ModalParts

__all__ = [
    'SEA',
    'ReleasedSEA',
    'VBPR',
    'FREEDOM',
    'Recommender',
    'SeparateLearning',
    'SeparateLearningOutput',
    'ModalGCNConv',
    'ModalGraphEncoder',
    'ItemGraphConv',
    'GenericUniqueSplit',
    'ModalParts',
    'SoloSimLoss',
    'CLUBLoss',
    'NegativeL2Loss',
    'BPRLoss',
    'SampledSoftmaxLoss',
]

classes = __all__
