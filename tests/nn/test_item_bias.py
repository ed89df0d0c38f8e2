import torch

from pyg_sea.nn.item_bias import with_bias


def test_biases_are_added_to_all_inner_products():
    x, y, bias = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5)
    x1, y1 = with_bias(x, y, bias)
    torch.testing.assert_close(x1 @ y1.t(), x @ y.t() + bias)
    assert torch.equal(x1[:, :4], x)
    assert torch.equal(y1[:, :4], y)


def test_nothing_to_add():
    x, y = torch.randn(3, 4), torch.randn(5, 4)
    for before, after in zip((x, y), with_bias(x, y, None)):
        assert after is before


def test_rows_keep_their_type():
    x, y = torch.randn(3, 4).bfloat16(), torch.randn(5, 4).bfloat16()
    for rows in with_bias(x, y, torch.randn(5)):
        assert rows.dtype == torch.bfloat16
