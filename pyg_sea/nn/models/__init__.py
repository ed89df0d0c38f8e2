from .freedom import FREEDOM
from .recommender import Recommender
from .released_sea import ReleasedSEA
from .sea import SEA
from .vbpr import VBPR

__all__ = ['SEA', 'ReleasedSEA', 'VBPR', 'FREEDOM', 'Recommender']

classes = __all__
