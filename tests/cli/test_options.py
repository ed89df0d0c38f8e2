import pytest
import torch

from pyg_sea.cli import _options
from pyg_sea.evaluate import METRICS
from pyg_sea.runs._models import MODELS


def test_names_are_those_of_the_library():
    assert list(_options.MODELS) == list(MODELS)
    assert list(_options.METRICS) == list(METRICS)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is CUDA')
def test_says_that_there_is_no_gpu(call, prepared, tmp_path):
    args = ['data/shop', '--out', tmp_path / 'run', '--device', 'cuda']
    _, err = call('train', *args, code=1)
    assert "torch finds no device 'cuda' here" in err
