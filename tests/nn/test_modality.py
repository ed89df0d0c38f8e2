import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Identity, ModuleDict

from pyg_sea.nn.modality import check_channels, check_modal_x, modality_key

AWKWARD = ['v1.5', 'v1%2E5', 'type', 'items', 'training', 'x_type', 'a b', '.']


def test_awkward_names_are_kept_apart():
    modules = ModuleDict({modality_key(name): Identity() for name in AWKWARD})
    assert len(modules) == len(AWKWARD)


@given(st.lists(st.text(min_size=1), unique=True, max_size=8))
def test_any_names_are_kept_apart(names):
    modules = ModuleDict({modality_key(name): Identity() for name in names})
    assert len(modules) == len(names)


def test_check_channels_copies_in_order():
    channels = {'text': 3, 'image': 5}
    out = check_channels(channels)
    assert list(out.items()) == [('text', 3), ('image', 5)]
    assert out is not channels


@pytest.mark.parametrize(
    'channels', [{}, None, {'a': 0}, {'a': 1.5}, {'': 3}, {3: 3}]
)
def test_check_channels_rejects(channels):
    with pytest.raises(ValueError, match='in_channels'):
        check_channels(channels)


@pytest.mark.parametrize(
    ('modal_x', 'match'),
    [
        ({'a': torch.ones(3, 2)}, r"\['a', 'b'\]"),
        (torch.ones(3, 2), r"\['a', 'b'\]"),
        ({'a': torch.ones(3, 2), 'b': torch.ones(4, 2)}, '3 rows'),
    ],
)
def test_check_modal_x_rejects(modal_x, match):
    with pytest.raises(ValueError, match=match):
        check_modal_x(modal_x, ['a', 'b'])


def test_check_modal_x_rejects_a_wrong_number_of_rows():
    modal_x = {'a': torch.ones(3, 2)}
    check_modal_x(modal_x, ['a'], 3)
    with pytest.raises(ValueError, match='4 rows'):
        check_modal_x(modal_x, ['a'], 4)
