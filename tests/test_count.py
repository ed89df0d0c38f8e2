import numpy as np
import pytest

from pyg_sea._count import check_count


@pytest.mark.parametrize('value', [0, -1, 2.5, 2.0, True, '3', None, [3]])
def test_what_is_no_count(value):
    with pytest.raises(ValueError, match="'k' needs to be a positive integer"):
        check_count('k', value)


@pytest.mark.parametrize('value', [1, 20, np.int64(3)])
def test_counts(value):
    check_count('k', value)
