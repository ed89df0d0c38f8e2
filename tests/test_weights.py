import pytest

from pyg_sea._weights import check_weights


@pytest.mark.parametrize('weights', [{'a': 1}, {'a': 0.5, 'b': 0}])
def test_weights_that_make_sense(weights):
    check_weights(weights)
    check_weights(weights, ['b', 'a', 'c'])


@pytest.mark.parametrize('w', [-1.0, 0.0, float('nan'), float('inf')])
def test_values_that_make_none(w):
    with pytest.raises(ValueError, match='finite, not negative and not all'):
        check_weights({'a': w})


def test_none_at_all():
    with pytest.raises(ValueError, match='not all zero'):
        check_weights({})


def test_unknown_names():
    with pytest.raises(ValueError, match=r"\['c'\] \(known: \['a', 'b'\]\)"):
        check_weights({'a': 1, 'c': 0}, 'ab')
