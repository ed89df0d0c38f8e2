import pytest
import torch

from pyg_sea.nn import GenericUniqueSplit, ModalParts


def test_linear():
    split = GenericUniqueSplit(8, 3)
    x = torch.randn(5, 8)
    out = split(x)
    assert isinstance(out, ModalParts)
    expected = x @ split.generic.weight.t() + split.generic.bias
    torch.testing.assert_close(out.generic, expected)
    expected = x @ split.unique.weight.t() + split.unique.bias
    torch.testing.assert_close(out.unique, expected)
    assert out.unique.shape == (5, 5)

    before = split.generic.weight.clone()
    split.reset_parameters()
    assert not torch.equal(before, split.generic.weight)
    assert 'generic=3, unique=5' in str(split)


def test_slice_is_the_input():
    split = GenericUniqueSplit(8, 3, mode='slice')
    x = torch.randn(5, 8)
    assert torch.equal(torch.cat(split(x), dim=-1), x)
    assert not list(split.parameters())
    split.reset_parameters()


def test_sizes_are_free_when_linear():
    out = GenericUniqueSplit(8, 16, 24)(torch.randn(2, 8))
    assert out.generic.shape == (2, 16)
    assert out.unique.shape == (2, 24)


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        ({'generic_channels': 0}, 'generic_channels'),
        ({'generic_channels': 8}, 'unique_channels'),
        ({'generic_channels': 4, 'mode': 'cut'}, 'mode'),
        (
            {'generic_channels': 4, 'unique_channels': 5, 'mode': 'slice'},
            'add up',
        ),
    ],
)
def test_rejects_arguments(kwargs, match):
    with pytest.raises(ValueError, match=match):
        GenericUniqueSplit(8, **kwargs)


def test_rejects_input():
    with pytest.raises(ValueError, match='8 columns'):
        GenericUniqueSplit(8, 4)(torch.randn(2, 7))
