import pytest
import torch
import torch.nn.functional as F

from pyg_sea.nn.propagate_blocks import propagate_blocks

NUM_USERS, NUM_ITEMS, WIDTHS = 5, 4, [3, 2, 4]


def blocks(dtype=torch.double):
    return [
        [
            torch.randn(size, width, dtype=dtype, requires_grad=True)
            for width in WIDTHS
        ]
        for size in (NUM_USERS, NUM_ITEMS)
    ]


def graph(dtype=torch.double):
    """One that is not symmetric."""
    size = NUM_USERS + NUM_ITEMS
    adj = torch.rand(size, size, dtype=dtype) * (torch.rand(size, size) < 0.5)
    return adj, adj.to_sparse_csr(), adj.t().contiguous().to_sparse_csr()


def expected(users, items, dense, K, index):
    h = torch.cat(
        [F.normalize(torch.cat(pair), dim=-1) for pair in zip(users, items)],
        dim=1,
    )
    out = h
    for _ in range(K):
        h = dense @ h
        out = out + h
    x_user, x_item = out.split([NUM_USERS, NUM_ITEMS])
    return (x_user if index is None else x_user[index]), x_item


@pytest.mark.parametrize('K', [0, 1, 2, 3])
@pytest.mark.parametrize('index', [None, torch.tensor([4, 0, 4])])
def test_is_the_composition(index, K):
    users, items = blocks()
    dense, adj, adj_t = graph()
    outs = propagate_blocks(users, items, adj, adj_t, K, index)
    wanted = expected(users, items, dense, K, index)
    torch.testing.assert_close(outs, wanted)
    weights = [torch.randn_like(out) for out in outs]
    grads, wanted_grads = (
        torch.autograd.grad(
            sum((x * w).sum() for x, w in zip(xs, weights)), users + items
        )
        for xs in (outs, wanted)
    )
    torch.testing.assert_close(grads, wanted_grads)


def test_only_one_output_is_used():
    users, items = blocks()
    dense, adj, adj_t = graph()
    for which in (0, 1):
        grads, wanted = (
            torch.autograd.grad(out[which].sin().sum(), users + items)
            for out in (
                propagate_blocks(users, items, adj, adj_t, 2),
                expected(users, items, dense, 2, None),
            )
        )
        torch.testing.assert_close(grads, wanted)


def test_inputs_stay_as_they_are():
    users, items = blocks()
    _, adj, adj_t = graph()
    before = [x.detach().clone() for x in users + items]
    first = propagate_blocks(users, items, adj, adj_t, 2)
    second = propagate_blocks(users, items, adj, adj_t, 2)
    grad = torch.randn_like(first[1])
    given = grad.clone()
    first[1].backward(grad)
    torch.testing.assert_close(list(users + items), before)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(grad, given)


def test_rows_of_zeros():
    """They stay zeros, and hand on what is a gradient by a constant."""
    users, items = blocks()
    with torch.no_grad():
        items[0][1] = 0
    _, adj, adj_t = graph()
    _, x_item = propagate_blocks(users, items, adj, adj_t, 0, eps=0.5)
    assert not x_item[1, : WIDTHS[0]].any()
    [grad] = torch.autograd.grad(x_item[1, 0], items[0])
    torch.testing.assert_close(grad[1], torch.tensor([2.0, 0, 0]).double())


def test_mixed_precision():
    """As under autocast: parameters in single, items in half precision."""
    users, items = blocks(torch.float)
    half = [x.detach().bfloat16().requires_grad_() for x in items]
    _, adj, adj_t = graph(torch.float)
    outs = propagate_blocks(users, half, adj, adj_t, 2)
    wanted = propagate_blocks(users, items, adj, adj_t, 2)
    assert [out.dtype for out in outs] == [torch.float, torch.float]
    torch.testing.assert_close(outs, wanted, atol=0.03, rtol=0.03)
    outs[1].sum().backward()
    assert half[0].grad.dtype == torch.bfloat16
    assert users[0].grad.dtype == torch.float


def test_all_in_half_precision():
    users, items = blocks(torch.bfloat16)
    _, adj, adj_t = graph(torch.float)
    outs = propagate_blocks(users, items, adj, adj_t, 1)
    assert [out.dtype for out in outs] == [torch.bfloat16, torch.bfloat16]
