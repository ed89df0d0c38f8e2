import math

import torch

from pyg_sea.nn import BPRLoss


def test_closed_form():
    loss = BPRLoss()
    zero = torch.zeros(4)
    torch.testing.assert_close(loss(zero, zero), torch.tensor(math.log(2)))
    pos, neg = torch.randn(2, 100, dtype=torch.double)
    expected = (1 + (neg - pos).exp()).log().mean()
    torch.testing.assert_close(loss(pos, neg), expected)
    assert str(loss) == 'BPRLoss()'


def test_finite_for_large_scores():
    pos = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = BPRLoss()(pos, -pos.detach())
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(1e4))
    torch.testing.assert_close(pos.grad, torch.tensor([0.0, -0.5]))
