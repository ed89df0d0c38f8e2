import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyg_sea.datasets._features import clean_features


@pytest.mark.parametrize('dtype', ['<f2', '<f4', '<f8', '>f4', '>f8', 'g'])
def test_every_float_type_becomes_float32(dtype):
    x = np.array([[1.5, -2], [0.25, 1e3]]).astype(dtype)
    out = clean_features({'a': x})['a']
    assert out.dtype == torch.float32
    assert out.tolist() == [[1.5, -2], [0.25, 1e3]]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_tensors_are_welcome_and_not_changed(dtype):
    x = torch.tensor([[3.0, 4], [0, 2]], dtype=dtype, requires_grad=True)
    out = clean_features({'a': x}, 'l2')['a']
    assert not out.requires_grad
    assert torch.equal(out, torch.tensor([[0.6, 0.8], [0, 1]]))
    assert x.tolist() == [[3, 4], [0, 2]]


def test_arrays_are_not_changed():
    x = np.array([[3.0, 4]], dtype=np.float32)
    out = clean_features({'a': x})['a']
    out.zero_()
    assert x.tolist() == [[3, 4]]


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_name_their_rows(value):
    x = np.ones((20, 3))
    x[[2, 7, 7, 11, 12, 13, 14], 1] = value
    with pytest.raises(ValueError, match=r"'a' .* in 6 of 20 rows: 2, 7, 11"):
        clean_features({'a': x})
    names = np.array([f'i{n}' for n in range(20)])
    with pytest.raises(ValueError, match='20 items: i2, i7'):
        clean_features({'a': x}, None, names)


@pytest.mark.parametrize('dtype', [np.int64, bool, np.complex64, object, 'U1'])
def test_other_types_are_refused(dtype):
    with pytest.raises(TypeError, match="modality 'a' need to be floats"):
        clean_features({'a': np.ones((2, 2)).astype(dtype)})


@pytest.mark.parametrize('shape', [(3,), (3, 1, 1), (3, 0), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r'shape \[num_items, width\]'):
        clean_features({'a': np.ones(shape)})


def test_modalities_need_to_fit():
    with pytest.raises(ValueError, match=r"\{'a': 2, 'b': 3\}"):
        clean_features({'a': np.ones((2, 1)), 'b': np.ones((3, 1))})
    with pytest.raises(ValueError, match='at least one modality'):
        clean_features({})
    with pytest.raises(ValueError, match='names are strings'):
        clean_features({1: np.ones((2, 1))})
    with pytest.raises(ValueError, match="'l2', 'standard' or None"):
        clean_features({'a': np.ones((2, 1))}, 'zscore')
    with pytest.raises(ValueError, match=r"unknown modalities \['b'\]"):
        clean_features({'a': np.ones((2, 1))}, {'b': 'l2'})


def test_zero_rows_are_counted_and_stay_zero():
    x = np.random.default_rng(0).normal(5, 2, size=(6, 4))
    x[[1, 4]] = 0
    for normalize in ('l2', 'standard', None):
        with pytest.warns(UserWarning, match="'a': 2 of 6 items"):
            out = clean_features({'a': x}, normalize)['a']
        assert out.isfinite().all()
        assert (out == 0).all(dim=1).tolist() == [0, 1, 0, 0, 1, 0]


def test_standard_equals_its_definition_and_survives_constants():
    x = np.random.default_rng(0).normal(100, 7, size=(50, 9))
    x[:, 3] = 0.1
    x[:, 5] = 0
    out = clean_features({'a': x}, {'a': 'standard'})['a'].numpy()
    rest = [0, 1, 2, 4, 6, 7, 8]
    expected = (x - x.mean(0))[:, rest] / x.std(0)[rest] / 3
    np.testing.assert_allclose(out[:, rest], expected, atol=1e-4)
    assert (out[:, [3, 5]] == 0).all()


def test_normalisation_is_per_modality():
    x = np.full((2, 2), 2.0)
    out = clean_features({'a': x, 'b': x}, {'a': 'l2'})
    assert torch.allclose(out['a'], torch.full((2, 2), 0.5**0.5))
    assert (out['b'] == 2).all()


def test_all_zero_features():
    with pytest.warns(UserWarning, match='2 of 2'):
        out = clean_features({'a': np.zeros((2, 3))}, 'standard')['a']
    assert (out == 0).all()


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 8), st.integers(1, 5)),
        elements=st.floats(
            -(2.0**125), 2.0**125, width=32, allow_subnormal=False
        ),
    )
)
@pytest.mark.filterwarnings('ignore:modality')
def test_l2_rows_have_length_one_or_zero(x):
    norm = clean_features({'a': x}, 'l2')['a'].norm(dim=1)
    expected = torch.from_numpy(x.any(axis=1).astype(np.float32))
    torch.testing.assert_close(norm, expected, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings('ignore:modality')
@pytest.mark.parametrize('how', [None, 'l2', 'standard'])
@pytest.mark.parametrize('rows', [1, 3, 10])
def test_chunks_do_not_matter(monkeypatch, how, rows):
    # Large means beside small deviations, zero rows, a constant column.
    x = np.random.default_rng(0).normal(1000, 0.1, size=(20, 4))
    x[:, 1] = 0.1
    x[[0, 1, 2, 17]] = 0
    whole = clean_features({'a': x}, how)['a']
    module = sys.modules['pyg_sea.datasets._matrix']
    monkeypatch.setattr(module, '_CHUNK_SIZE', 4 * rows)
    parts = clean_features({'a': x}, how)['a']
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-7)
    x[[4, 19], 0] = np.nan
    with pytest.raises(ValueError, match='in 2 of 20 rows: 4, 19'):
        clean_features({'a': x}, how)


@pytest.mark.parametrize('how', [None, 'l2', 'standard'])
@pytest.mark.parametrize('rows', [1, 4, 100])
def test_rows_of_nan_are_rows_of_zeros(monkeypatch, how, rows):
    module = sys.modules['pyg_sea.datasets._matrix']
    monkeypatch.setattr(module, '_CHUNK_SIZE', 4 * rows)
    x = np.random.default_rng(0).normal(100, 2, size=(20, 4))
    lacking = [0, 5, 6, 19]
    x[lacking] = np.nan
    zeros = np.nan_to_num(x)
    x[5] = 0  # Both ways in one matrix.
    there = np.delete(np.arange(20), lacking)
    with pytest.warns(UserWarning, match="'a': 4 of 20 items"):
        out = clean_features({'a': x}, how)['a']
    assert (out[lacking] == 0).all()
    assert not (np.signbit(out[lacking].numpy())).any()
    with pytest.warns(UserWarning, match="'a': 4 of 20 items"):
        assert torch.equal(clean_features({'a': zeros}, how)['a'], out)
    # Statistics are those of the rows that are there.
    alone = clean_features({'a': x[there]}, how)['a']
    torch.testing.assert_close(out[there], alone)
    if how == 'standard':
        mean, std = x[there].mean(axis=0), x[there].std(axis=0)
        expected = torch.from_numpy((x[there] - mean) / std / 2).float()
        torch.testing.assert_close(out[there], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('rows', [1, 100])
def test_rows_that_are_nan_in_part_are_refused(monkeypatch, rows):
    module = sys.modules['pyg_sea.datasets._matrix']
    monkeypatch.setattr(module, '_CHUNK_SIZE', 3 * rows)
    x = np.ones((9, 3))
    x[[1, 4]] = np.nan
    x[6, :2] = np.nan
    x[7] = np.inf
    x[8] = [np.nan, np.inf, np.nan]
    with pytest.raises(ValueError, match='in 3 of 9 rows: 6, 7, 8') as error:
        clean_features({'a': x}, 'standard')
    assert 'the whole row to NaN or zero' in str(error.value)


def test_one_warning_counts_all_modalities():
    x = np.ones((4, 3))
    x[2] = np.nan
    y = np.ones((4, 2))
    y[:3] = 0
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter('always')
        clean_features({'a': x, 'b': y, 'c': np.ones((4, 1))})
    [warning] = record
    message = "modality 'a': 1 of 4 items, modality 'b': 3 of 4 items have"
    assert str(warning.message).startswith(message)


def test_no_item_has_it():
    with pytest.warns(UserWarning, match='2 of 2'):
        out = clean_features({'a': np.full((2, 3), np.nan)}, 'standard')['a']
    assert (out == 0).all()
