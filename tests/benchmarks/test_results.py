"""The committed results of `benchmarks/quality` belong together."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'quality'
sys.path.insert(0, str(FOLDER))
import pages  # noqa: E402
import records  # noqa: E402

sys.path.remove(str(FOLDER))

FILES = sorted((FOLDER / 'results').glob('*.jsonl'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_users_are_those_of_the_line(path):
    for row in records.read(path):
        if pages.kind_of(row) not in ('comparison', 'controls'):
            continue
        users = records.read_users(records.users_path(path, row))
        for name, values in users.items():  # In half precision.
            assert values.mean() == pytest.approx(row['test'][name], abs=2e-4)


def test_all_users_have_a_line():
    known = {
        records.users_path(path, row)
        for path in FILES
        for row in records.read(path)
    }
    users = {*(FOLDER / 'results' / 'users').iterdir()}
    assert users
    assert users <= known


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_lines_are_of_committed_code(path):
    for row in records.read(path):
        assert len(row['commit']) == 40
