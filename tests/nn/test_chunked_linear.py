import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_sea.nn.chunked_linear import (
    FeatureLinear,
    chunked_linear,
    needs_chunks,
)

module = sys.modules['pyg_sea.nn.chunked_linear']


class Largest(TorchDispatchMode):
    """The largest tensor that any operation returns."""

    def __init__(self, numel: int = 0) -> None:
        super().__init__()
        self.numel = numel

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def layer(out_channels=3, in_channels=5, **kwargs):
    weight = torch.randn(out_channels, in_channels, **kwargs)
    bias = torch.randn(out_channels, **kwargs)
    return weight.requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize('chunk_size', [1, 4, 10, 11, None])
@pytest.mark.parametrize(
    'dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
def test_equals_linear(dtype, chunk_size):
    x = torch.randn(10, 5).to(dtype)
    weight, bias = layer()
    grad = torch.randn(10, 3)

    expected = F.linear(x.float(), weight, bias)
    expected.backward(grad)
    grads = weight.grad, bias.grad
    weight.grad = bias.grad = None

    out = chunked_linear(x, weight, bias, chunk_size)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected)
    out.backward(grad)
    torch.testing.assert_close(weight.grad, grads[0])
    torch.testing.assert_close(bias.grad, grads[1])


def test_without_bias_and_with_frozen_weights():
    x = torch.randn(10, 5).half()
    weight, bias = layer()
    out = chunked_linear(x, weight, chunk_size=3)
    torch.testing.assert_close(out, F.linear(x.float(), weight))
    frozen = weight.detach()
    assert not chunked_linear(x, frozen).requires_grad
    chunked_linear(x, frozen, bias).sum().backward()
    assert bias.grad.tolist() == [10, 10, 10]
    assert chunked_linear(x[:0], weight, bias).shape == (0, 3)


def test_never_holds_a_copy_of_all_rows():
    x = torch.randn(1000, 50).half()
    weight, bias = layer(4, 50)
    with Largest() as largest:
        out = chunked_linear(x, weight, bias, chunk_size=100)
        out.sum().backward()
    # The output itself, and one chunk.
    assert largest.numel == 100 * 50


def test_default_chunks_are_bounded(monkeypatch):
    monkeypatch.setattr(module, '_CHUNK_NUMEL', 1000)
    x = torch.randn(400, 50).half()
    with Largest() as largest:
        chunked_linear(x, torch.randn(2, 50))
    assert largest.numel == 1000


def test_half_precision_is_summed_in_single():
    x = torch.ones(4096, 1, dtype=torch.float16)
    weight = torch.ones(1, 1, dtype=torch.float16, requires_grad=True)
    out = chunked_linear(x, weight, chunk_size=1)
    assert out.dtype == torch.float16
    out.sum().backward()
    # Ones that are added in half precision stop counting at 2048.
    assert weight.grad.dtype == torch.float16
    assert weight.grad.item() == 4096


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_autocast_as_linear(dtype):
    x = torch.randn(10, 5).to(dtype)
    weight, bias = layer()
    with torch.autocast('cpu', torch.bfloat16):
        expected = F.linear(x, weight, bias)
        out = chunked_linear(x, weight, bias, 3)
        double = chunked_linear(x, *layer(dtype=torch.double))
    assert out.dtype == expected.dtype == torch.bfloat16
    assert double.dtype == torch.double
    torch.testing.assert_close(out, expected)
    (expected_grad,) = torch.autograd.grad(expected.sum(), weight)
    (grad,) = torch.autograd.grad(out.sum(), weight)
    assert grad.dtype == torch.float32
    torch.testing.assert_close(grad, expected_grad, rtol=0.02, atol=0.02)


def test_gradients_of_rows_take_the_plain_way():
    x = torch.randn(4, 5, requires_grad=True)
    weight, bias = layer()
    chunked_linear(x, weight, bias, 2).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(dim=0).expand(4, 5))


def test_has_no_second_derivative():
    weight, bias = layer()
    out = chunked_linear(torch.randn(4, 5).half(), weight, bias)
    (grad,) = torch.autograd.grad(out.pow(2).sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()


def test_rows_stay_on_their_device():
    # The meta device computes shapes only, but refuses a plain product.
    x = torch.randn(10, 5).half()
    weight, bias = (p.detach().to('meta').requires_grad_() for p in layer())
    with pytest.raises(RuntimeError, match='meta'):
        F.linear(x.float(), weight, bias)
    out = chunked_linear(x, weight, bias, 3)
    assert (out.device.type, out.shape) == ('meta', (10, 3))
    out.sum().backward()
    assert weight.grad.shape == (3, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA, a GPU')
def test_rows_on_the_cpu_and_weights_on_a_gpu():
    x = torch.randn(1000, 50).half()
    weight, bias = layer(4, 50)
    expected = F.linear(x.double(), weight.double(), bias.double())
    (expected_grad,) = torch.autograd.grad(expected.square().sum(), weight)
    on_gpu = weight.detach().cuda().requires_grad_()
    out = chunked_linear(x, on_gpu, bias.detach().cuda(), 300)
    out.square().sum().backward()
    torch.testing.assert_close(
        out.cpu(), expected.float(), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        on_gpu.grad.cpu(), expected_grad, rtol=1e-3, atol=1e-2
    )


@pytest.mark.parametrize('backend', ['aot_eager', 'inductor'])
def test_compiles_whole(backend):
    x = torch.randn(10, 5).half()
    weight, bias = layer()
    compiled = torch.compile(chunked_linear, fullgraph=True, backend=backend)
    out = compiled(x, weight, bias, 4)
    torch.testing.assert_close(out, F.linear(x.float(), weight, bias))
    out.sum().backward()
    torch.testing.assert_close(weight.grad[0], x.float().sum(dim=0))


def test_says_what_a_plain_product_cannot_take(monkeypatch):
    x, weight = torch.randn(10, 5), torch.randn(3, 5)
    assert not needs_chunks(x, weight)
    assert not needs_chunks(x.to('meta'), weight.to('meta'))
    assert needs_chunks(x, weight.to('meta'))
    assert needs_chunks(x.half(), weight)
    assert needs_chunks(x, weight.double())
    assert not needs_chunks(x.half().requires_grad_(), weight)
    with torch.autocast('cpu', torch.bfloat16):
        assert not needs_chunks(x.half(), weight)
        assert needs_chunks(x, weight.double())
        assert needs_chunks(x.double(), weight)
        assert not needs_chunks(x.double(), weight.double())
    monkeypatch.setattr(module, '_LARGE_NUMEL', 50)
    assert needs_chunks(x, weight)
    assert not needs_chunks(x[:-1], weight)
    assert not needs_chunks(x.to('meta'), weight.to('meta'))
    with torch.autocast('cpu', torch.bfloat16):
        assert needs_chunks(x, weight)


@pytest.mark.parametrize(
    ('x', 'chunk_size', 'message'),
    [
        (torch.ones(4, 6), None, r"'x' needs .* 5 floats .*\[4, 6\]"),
        (torch.ones(5), None, r'\[5\]'),
        (torch.ones(4, 5).long(), None, r'got torch\.int64'),
        (torch.ones(4, 5), 0, "'chunk_size' .*got 0"),
    ],
)
def test_refuses(x, chunk_size, message):
    with pytest.raises(ValueError, match=message):
        chunked_linear(x, torch.ones(3, 5), chunk_size=chunk_size)


def test_layer_is_a_linear_layer():
    layer, plain = FeatureLinear(6, 4), torch.nn.Linear(6, 4)
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(9, 6)
    assert torch.equal(layer(x), plain(x))
    out = layer(x.half())
    torch.testing.assert_close(out, plain(x.half().float()))
    out.sum().backward()
    torch.testing.assert_close(
        layer.weight.grad[0], x.half().float().sum(dim=0)
    )


def test_layer_takes_what_autocast_leaves_alone():
    layer, x = FeatureLinear(6, 4), torch.randn(9, 6)
    with torch.autocast('cpu', torch.bfloat16):
        expected = layer(x)
        out = layer(x.double())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected)
