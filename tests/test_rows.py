import pytest
import torch

from pyg_sea._rows import Rows, check_pairs


@pytest.mark.parametrize('in_order', [True, False])
def test_rows(in_order):
    index = torch.stack([torch.randint(9, (30,)), torch.arange(30)])
    if in_order:
        index = index[:, index[0].argsort(stable=True)]
    rows = Rows(index, num_rows=12)
    assert (rows.perm is None) == in_order
    wanted = torch.tensor([4, 0, 4, 11, 8])
    position, entry = rows.of(wanted)
    for i, row in enumerate(wanted.tolist()):
        expected = index[1, index[0] == row]
        assert torch.equal(rows.col[entry[position == i]], expected)
    assert position.tolist() == sorted(position.tolist())


def test_no_rows():
    rows = Rows(torch.empty(2, 0, dtype=torch.long), num_rows=3)
    for wanted in (torch.arange(3), torch.arange(0)):
        position, entry = rows.of(wanted)
        assert position.numel() == entry.numel() == 0


def test_check_pairs():
    pairs = torch.tensor([[0, 2], [1, 4]])
    check_pairs('pairs', pairs, 3, 5)
    check_pairs('pairs', pairs, None, None)
    check_pairs('pairs', pairs[:, :0], 0, 0)
    with pytest.raises(ValueError, match=r"'pairs' .* in row 0 \(got 0 to 2"):
        check_pairs('pairs', pairs, 2, 5)
    with pytest.raises(ValueError, match=r'0 to 3 in row 1 \(got 1 to 4'):
        check_pairs('pairs', pairs, 3, 4)
    with pytest.raises(ValueError, match=r'got torch.int32 of shape \[2, 2\]'):
        check_pairs('pairs', pairs.int(), 3, 5)
