import copy
import gc
import pickle

import pytest
import torch

from pyg_sea.nn import missing as module
from pyg_sea.nn.missing import CommonRows, MissingRows, zero_rows

CPU = torch.device('cpu')


@pytest.fixture
def reads(monkeypatch):
    """The features that were looked through."""
    seen = []

    def spy(x, name='x'):
        seen.append(name)
        return zero_rows(x, name)

    monkeypatch.setattr(module, 'zero_rows', spy)
    return seen


def features(*zero, size=4):
    x = torch.randn(6, size)
    x[[*zero]] = 0
    return x


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float', 'double'])
@pytest.mark.parametrize('numel', [1, 8, 2**21])
def test_zero_rows_are_found_in_chunks(monkeypatch, dtype, numel):
    monkeypatch.setattr(module, '_CHUNK_NUMEL', numel)
    x = features(0, 4).to(getattr(torch, dtype))
    x[2] = torch.tensor([0.0, 0.0, 0.0, -1e-7])
    x[3] = torch.finfo(x.dtype).max
    assert zero_rows(x).tolist() == [True, False, False, False, True, False]
    assert zero_rows(x[:0]).shape == (0,)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_other_values_are_told(value):
    x = features(0)
    x[3] = value
    x[5, 1] = value
    with pytest.raises(
        ValueError, match=r"'modal_x\['a'\]' .*row 3 .* 1 more"
    ):
        MissingRows()({'a': x}, CPU)


def test_only_modalities_that_are_missing_somewhere():
    modal_x = {'a': features(), 'b': features(1, 2)}
    out = MissingRows()(modal_x, CPU)
    assert list(out) == ['b']
    assert out['b'].tolist() == [False, True, True, False, False, False]


def test_features_are_read_once_and_again_when_they_change(reads):
    rows = MissingRows()
    old, new = {'a': features(1)}, {'a': features(2)}
    first = rows(old, CPU)['a']
    for _ in range(3):
        assert rows(old, CPU)['a'] is first
        assert rows(dict(new), CPU)['a'].tolist().index(True) == 2
    assert len(reads) == 2
    old['a'][5] = 0
    assert rows(old, CPU)['a'].nonzero().flatten().tolist() == [1, 5]
    assert len(reads) == 3
    for other in (copy.deepcopy(rows), pickle.loads(pickle.dumps(rows))):
        assert other(old, CPU)['a'].sum() == 2
    assert len(reads) == 5


def test_features_are_not_kept_alive(reads):
    rows = MissingRows()
    for _ in range(5):
        rows({'a': features(1)}, CPU)
        gc.collect()
    assert len(rows._cache._found) == 1
    assert len(reads) == 5


def test_inference_mode():
    rows, x = MissingRows(), features(1)
    with torch.inference_mode():
        mask = rows({'a': x}, CPU)['a']
        assert rows({'a': x * 1.0}, CPU)['a'].sum() == 1
    weight = torch.ones(6, 4, requires_grad=True)
    out = weight.masked_fill(mask.unsqueeze(1), 0.0)  # Kept for its backward.
    out.sum().backward()
    assert weight.grad.sum() == 20


def test_cleared_rows_get_no_gradient_whatever_it_is():
    rows = {m: torch.randn(6, 3, requires_grad=True) for m in ('a', 'b')}
    modal_x = {'a': features(0, 3), 'b': features()}
    out = MissingRows().clear(rows, modal_x)
    assert out['b'] is rows['b']
    keep = torch.tensor([1, 2, 4, 5])
    assert torch.equal(out['a'][keep], rows['a'][keep])
    assert (out['a'][[0, 3]] == 0).all()
    out['a'].backward(torch.full((6, 3), float('inf')))
    assert (rows['a'].grad[[0, 3]] == 0).all()


def test_common_rows_of_one_process_and_of_shares(monkeypatch):
    a = torch.tensor([True, False, False, True, False, False, False])
    b = torch.tensor([False, False, False, False, False, True, True])
    common = CommonRows()
    out = common([a, b], 7)
    assert out.rows.tolist() == [1, 2, 4]
    assert (out.sizes, out.total) == (None, 3)
    assert common([a, b], 7) is out
    assert common([a], 7).total == 5

    sizes = [2, 0, 5]
    for index, rows in enumerate([[1], [], [0, 2]]):
        monkeypatch.setattr('pyg_sea.nn.distributed.rank', lambda i=index: i)
        part = CommonRows()([a, b], sizes[index], sizes)
        assert part.rows.tolist() == rows
        assert (part.sizes, part.total) == ([1, 0, 2], 3)


def test_masks_need_to_fit():
    for mask in (torch.zeros(3), torch.zeros(4).bool()):
        with pytest.raises(ValueError, match='masks of 3 booleans'):
            CommonRows()([mask], 3)
    with pytest.raises(ValueError, match='masks of 5 booleans'):
        CommonRows()([torch.zeros(3).bool()], 3, [3, 2])
