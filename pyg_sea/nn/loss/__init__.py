from .bpr import BPRLoss
from .club import CLUBLoss
from .negative_l2 import NegativeL2Loss
from .sampled_softmax import SampledSoftmaxLoss
from .solo_sim import SoloSimLoss

__all__ = [
    'SoloSimLoss',
    'CLUBLoss',
    'NegativeL2Loss',
    'BPRLoss',
    'SampledSoftmaxLoss',
]

classes = __all__
