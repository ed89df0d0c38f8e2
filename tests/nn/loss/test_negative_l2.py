import pytest
import torch

from pyg_sea.nn import NegativeL2Loss


def test_closed_form_and_gradient():
    x = torch.randn(7, 3, requires_grad=True)
    y = torch.randn(7, 3)
    loss = NegativeL2Loss()(x, y)
    expected = -sum(
        (x[i, d] - y[i, d]) ** 2 for i in range(7) for d in range(3)
    )
    torch.testing.assert_close(loss, expected / 21)
    loss.backward()
    torch.testing.assert_close(x.grad, -2 * (x - y).detach() / 21)
    assert str(NegativeL2Loss()) == 'NegativeL2Loss()'


def test_rejects_input():
    with pytest.raises(ValueError, match='equal shapes'):
        NegativeL2Loss()(torch.zeros(3, 2), torch.zeros(3, 4))
