"""A trained model at work: external ids in, external ids out."""

from pyg_sea.serving.explanation import Explanation
from pyg_sea.serving.recommender import Recommender

__all__ = [
    'Recommender',
    'Explanation',
]

classes = __all__
