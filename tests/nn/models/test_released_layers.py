import torch
from torch.nn import Linear

from pyg_sea.nn.loss.estimator import MLPGaussian
from pyg_sea.nn.models.released_layers import (
    projection_head,
    released_distance,
    released_rows,
)


def test_rows_are_those_of_layers_after_the_full_width_map():
    full = Linear(8, 8).double()
    sizes = [(4, 3), (4, 2), (4, 5), (8, 6)]
    readers = [Linear(*size).double() for size in sizes]
    x = torch.randn(20, 8, dtype=torch.double)

    out = released_rows(x, full, readers)

    y = full(x)
    first, second = y[:, :4], y[:, 4:]
    for row, reader, part in zip(out, readers, [first, first, second, y]):
        torch.testing.assert_close(row, reader(part))


def test_head_is_three_layers_wide():
    head = projection_head(6, 5, 4)

    assert head(torch.randn(7, 6)).shape == (7, 4)
    sizes = [m.weight.shape for m in head if isinstance(m, Linear)]
    assert sizes == [(5, 6), (5, 5), (4, 5)]


def test_distance_is_a_quarter_of_the_difference_of_squares():
    # A Gaussian of mean 0 and variance 1: the likelihoods differ by half of
    # the difference of squares, which the released code halves again.
    estimator = MLPGaussian(2, 3, 4, num_steps=1, lr=1e-3)
    with torch.no_grad():
        for tensor in estimator.tensors():
            tensor.zero_()
    generic, unique = torch.randn(5, 2), torch.randn(5, 3)
    perm = torch.tensor([1, 1, 1, 1, 1])

    out = released_distance(estimator, generic, unique, perm)

    squares = unique.square().sum(dim=1)
    expected = (squares[1] - squares.mean()) / 4
    torch.testing.assert_close(out, expected.clamp(min=0))


def test_distance_is_never_negative():
    estimator = MLPGaussian(2, 3, 4, num_steps=1, lr=1e-3)
    generic, unique = torch.randn(5, 2), torch.randn(5, 3)

    same = released_distance(estimator, generic, unique, torch.arange(5))
    drawn = released_distance(estimator, generic, unique, None)

    assert same.item() == 0
    assert drawn.item() >= 0
