from .recommender import Recommender
from .released_sea import ReleasedSEA
from .sea import SEA

__all__ = ['SEA', 'ReleasedSEA', 'Recommender']

classes = __all__
