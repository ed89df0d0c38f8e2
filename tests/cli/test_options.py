import pytest
import torch

from pyg_sea.cli import _options, compare, train
from pyg_sea.evaluate import METRICS
from pyg_sea.runs import make_settings
from pyg_sea.runs._models import MODELS


def test_names_are_those_of_the_library():
    assert list(_options.MODELS) == list(MODELS)
    assert list(_options.METRICS) == list(METRICS)


def test_messages_name_options():
    with (
        pytest.raises(ValueError, match=r'^--set holds .foo., which is no'),
        _options.as_options(),
    ):
        make_settings('demo', model_settings={'foo': 1})
    # Neither a column, nor what has no other name.
    for message in ("'x.csv' has no column 'k'", "'lr' needs to be positive"):
        with (
            pytest.raises(ValueError, match=f'^{message}$'),
            _options.as_options(),
        ):
            raise ValueError(message)


def test_every_renamed_argument_is_one_of_train_and_compare():
    options = set()
    for command in (train.command, compare.command):
        for option in command.params:
            options.update(option.opts)
            if option.name in _options._RENAMED:
                assert _options._RENAMED[option.name] in option.opts
    assert set(_options._RENAMED.values()) <= options


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is CUDA')
def test_says_that_there_is_no_gpu(call, prepared, tmp_path):
    args = ['data/shop', '--out', tmp_path / 'run', '--device', 'cuda']
    _, err = call('train', *args, code=1)
    assert "torch finds no device 'cuda' here" in err
