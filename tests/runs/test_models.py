from inspect import signature

import pytest

from pyg_sea.datasets import FakeMultimodal
from pyg_sea.nn import SEA
from pyg_sea.runs._models import MODELS, build_model, check_settings


@pytest.fixture(scope='module')
def data():
    return FakeMultimodal(num_users=20, num_items=20)[0]


@pytest.mark.parametrize('name', list(MODELS))
def test_models_take_all_of_their_settings_and_no_others(name, data):
    defaults = {
        key: parameter.default
        for function in MODELS[name].takes
        for key, parameter in signature(function).parameters.items()
    }
    known = MODELS[name].settings
    assert 'hidden_channels' in known
    for key in known:
        build_model(name, {key: defaults[key]}, data)
    # Those that the data decide are none.
    for key in ('foo', 'num_users', 'num_items', 'in_channels'):
        with pytest.raises(ValueError) as caught:
            build_model(name, {known[0]: 8, key: 1}, data)
        message = str(caught.value)
        assert f"'{key}', which is no setting of the model '{name}'" in message
        assert message.endswith(f'Those are: {", ".join(known)}')


def test_settings_of_inner_modules_come_after_those_of_the_model():
    assert MODELS['VBPR'].settings == [
        'hidden_channels',
        'lambda_reg',
        'lambda_map',
    ]
    for name in ('SEA', 'SEA.paper'):
        known = MODELS[name].settings
        own = [key for key in signature(SEA).parameters if key in known]
        assert known[: len(own)] == own
        # Of `SeparateLearning`, those that `SEA` does not have.
        assert known[len(own) :] == [
            'temperature',
            'symmetric',
            'distance',
            'club_kwargs',
        ]
        check_settings(name, {'club_kwargs': None, 'alpha': 1})
