import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_sea.nn.propagate_blocks import STRIP, propagate_blocks

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


INDICES = [None, torch.tensor([4, 0, 4]), torch.empty(0, dtype=torch.long)]


@pytest.mark.parametrize('strip', [1, 2, 64])
@pytest.mark.parametrize('K', [0, 1, 2, 3])
@pytest.mark.parametrize('index', INDICES, ids=['all', 'some', 'none'])
def test_is_the_composition(monkeypatch, index, K, strip):
    """By strips that divide the blocks, that do not, and that hold them."""
    monkeypatch.setitem(STRIP, 'cpu', strip)
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


class Widths(TorchDispatchMode):
    """The widths of all matrices of all nodes that operations return."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if (
            isinstance(out, torch.Tensor)
            and out.layout == torch.strided
            and out.dim() == 2
            and out.size(0) == NUM_USERS + NUM_ITEMS
        ):
            self.found.add(out.size(1))
        return out


@pytest.mark.parametrize('K', [1, 2, 3])
def test_no_matrix_of_all_nodes_is_wider_than_a_strip(monkeypatch, K):
    monkeypatch.setitem(STRIP, 'cpu', 2)
    users, items = blocks()
    _, adj, adj_t = graph()
    index = torch.tensor([1, 3])
    with Widths() as forward:
        outs = propagate_blocks(users, items, adj, adj_t, K, index)
    with Widths() as backward:
        torch.autograd.grad(outs[0].sum() + outs[1].sum(), users + items)
    assert forward.found == backward.found == {1, 2}


def test_keeps_the_rows_as_they_came_and_their_lengths():
    users, items = blocks()
    _, adj, adj_t = graph()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: saved.append(x) or x, lambda x: x
    ):
        propagate_blocks(users, items, adj, adj_t, 2)
    inputs = {x.data_ptr() for x in users + items}
    others = [x for x in saved if x.data_ptr() not in inputs]
    assert len(saved) - len(others) == len(inputs)
    assert {x.size(1) for x in others} == {1}


def test_has_no_second_derivative():
    users, items = blocks()
    _, adj, adj_t = graph()
    x_user, _ = propagate_blocks(users, items, adj, adj_t, 2)
    [grad] = torch.autograd.grad(
        x_user.square().sum(), users[0], create_graph=True
    )
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()


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


def test_rows_of_zeros_on_a_graph_in_half_precision():
    """It takes the bound of the divisor for 0."""
    zeros = torch.zeros(2, 3, dtype=torch.half, requires_grad=True)
    adj = torch.eye(4, dtype=torch.half).to_sparse_csr()
    _, x_item = propagate_blocks([zeros], [zeros], adj, adj, K=0)
    x_item.sum().backward()
    assert not x_item.any()
    assert not zeros.grad.isnan().any()


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


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_all_in_half_precision(dtype):
    users, items = blocks(dtype)
    dense, adj, adj_t = graph(torch.float)
    outs = propagate_blocks(users, items, adj, adj_t, 1)
    single = [x.detach().float().requires_grad_() for x in users + items]
    wanted = expected(single[:3], single[3:], dense, 1, None)
    assert [out.dtype for out in outs] == [dtype, dtype]
    # Rounded once, at the end.
    torch.testing.assert_close(outs, tuple(x.to(dtype) for x in wanted))
    grads, wanted_grads = (
        torch.autograd.grad(xs[0].sum() + xs[1].sum(), inputs)
        for xs, inputs in ((outs, users + items), (wanted, single))
    )
    for grad, x in zip(grads, wanted_grads):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, x.to(dtype), atol=1e-2, rtol=1e-2)


def test_one_block_in_single_precision_makes_the_result_so():
    users, items = blocks(torch.bfloat16)
    items[-1] = items[-1].detach().float()
    _, adj, adj_t = graph(torch.float)
    outs = propagate_blocks(users, items, adj, adj_t, 1)
    assert [out.dtype for out in outs] == [torch.float, torch.float]


def test_autocast_stays_out_of_both_directions():
    users, items = blocks(torch.float)
    _, adj, adj_t = graph(torch.float)
    found = []
    for enabled in (False, True):
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            outs = propagate_blocks(users, items, adj, adj_t, 2)
            loss = outs[0].sin().sum() + outs[1].cos().sum()
            grads = torch.autograd.grad(loss, users + items)
        found.append([*outs, *grads])
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs cuda, a GPU')
@pytest.mark.parametrize('index', INDICES, ids=['all', 'some', 'none'])
def test_on_a_gpu(index):
    users, items = blocks(torch.float)
    dense, adj, adj_t = graph(torch.float)
    wanted = expected(users, items, dense, 2, index)
    outs = propagate_blocks(
        [x.cuda() for x in users],
        [x.cuda() for x in items],
        adj.cuda(),
        adj_t.cuda(),
        2,
        None if index is None else index.cuda(),
    )
    outs = tuple(out.cpu() for out in outs)
    torch.testing.assert_close(outs, wanted, rtol=1e-4, atol=1e-4)
    grads, wanted_grads = (
        torch.autograd.grad(xs[0].sum() + xs[1].sin().sum(), users + items)
        for xs in (outs, wanted)
    )
    torch.testing.assert_close(grads, wanted_grads, rtol=1e-4, atol=1e-4)
