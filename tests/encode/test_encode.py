import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyg_sea.encode import encode


class Lengths:
    """Counts what it is asked for."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.batches = []
        self.stop_after = stop_after

    def __call__(self, texts):
        if len(self.batches) == self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(list(texts))
        # Rows depend on their batch, as those of padded texts do.
        return [[len(x), len(x) ** 0.5, len(texts)] for x in texts]


@pytest.fixture
def write(tmp_path):
    def write(values, function, out='x.npy', key='lengths', **kwargs):
        return encode(
            values,
            function,
            tmp_path / out,
            key=key,
            cache_dir=tmp_path / 'cache',
            progress=False,
            **kwargs,
        )

    return write


def rows_files(root: Path) -> list[Path]:
    return sorted((root / 'cache').rglob('*.rows'))


def test_rows_belong_to_their_items(write):
    function = Lengths()
    done = write(['bb', 'a', 'ccc', 'a', 'dddd'], function, batch_size=2)
    x = np.load(done.path)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[:, 0], [2, 1, 3, 1, 4])
    # Equal contents are computed once.
    assert function.batches == [['bb', 'a'], ['ccc', 'dddd']]
    assert (done.num_items, done.num_computed, done.num_cached) == (5, 5, 0)
    assert not done.missing.any()
    assert done.reasons == {}


def test_a_second_call_computes_nothing(write):
    texts = ['bb', 'a', 'ccc']
    first = write(texts, Lengths(), 'first.npy', batch_size=2)
    function = Lengths()
    second = write(texts, function, 'second.npy', batch_size=2)
    assert function.batches == []
    assert (second.num_computed, second.num_cached) == (0, 3)
    assert second.path.read_bytes() == first.path.read_bytes()


def test_only_what_changed_is_computed(write):
    write(['bb', 'a', 'ccc'], Lengths())
    function = Lengths()
    done = write(['ccc', 'new one', 'bb'], function)
    assert function.batches == [['new one']]
    assert (done.num_computed, done.num_cached) == (1, 2)
    np.testing.assert_array_equal(np.load(done.path)[:, 0], [3, 7, 2])


def test_another_key_is_another_model(write):
    write(['bb', 'a'], Lengths())
    function = Lengths()
    write(['bb', 'a'], function, key='others')
    assert function.batches == [['bb', 'a']]
    with pytest.raises(ValueError, match=r'returned 1 columns.*have 3.*key'):
        write(['new'], lambda texts: [[0.0]])


@pytest.mark.parametrize('stop_after', [0, 1, 2, 3])
def test_goes_on_after_an_interruption(write, tmp_path, stop_after):
    texts = [f'{"x" * (i % 5)} {i}' for i in range(10)]
    whole = write(texts, Lengths(), 'whole.npy', 'other', batch_size=3)
    with pytest.raises(KeyboardInterrupt):
        write(texts, Lengths(stop_after), batch_size=3)
    assert not (tmp_path / 'x.npy').exists()

    function = Lengths()
    done = write(texts, function, batch_size=3)
    assert [x for batch in function.batches for x in batch] == (
        texts[3 * stop_after :]
    )
    assert done.num_cached == 3 * stop_after
    assert done.path.read_bytes() == whole.path.read_bytes()


def test_a_killed_process_leaves_its_batches(write, tmp_path):
    code = """if True:
        import os, sys
        from pyg_sea.encode import encode
        batches = []
        def function(texts):
            if batches:
                os._exit(7)  # Nothing is cleaned up.
            batches.append(texts)
            return [[len(x), len(x) ** 0.5, len(texts)] for x in texts]
        encode(['bb', 'a', 'ccc', 'd'], function, sys.argv[1], key='lengths',
               batch_size=2, cache_dir=sys.argv[2], progress=False)
    """
    args = (str(tmp_path / 'x.npy'), str(tmp_path / 'cache'))
    done = subprocess.run([sys.executable, '-c', code, *args], check=False)
    assert done.returncode == 7
    assert not (tmp_path / 'x.npy').exists()
    function = Lengths()
    assert write(['bb', 'a', 'ccc', 'd'], function).num_cached == 2
    assert function.batches == [['ccc', 'd']]


def test_torn_and_damaged_batches_are_computed_again(write, tmp_path):
    texts = ['bb', 'a', 'ccc', 'd']
    whole = write(texts, Lengths(), batch_size=2).path.read_bytes()
    [path] = rows_files(tmp_path)
    sound = path.read_bytes()
    half = len(sound) // 2  # The two batches are of one size.
    for torn in (0, 7, 16, half - 1, half, half + 7, half + 20, -1):
        path.write_bytes(sound[:torn])
        function = Lengths()
        done = write(texts, function, batch_size=2)
        kept = 2 if torn == -1 or torn >= half else 0
        assert sum(map(len, function.batches)) == 4 - kept
        assert done.path.read_bytes() == whole
        for other in set(rows_files(tmp_path)) - {path}:
            other.unlink()
    for where in (20, half - 1):  # In the first batch; the second is sound.
        damaged = bytearray(sound)
        damaged[where] ^= 1
        path.write_bytes(damaged)
        function = Lengths()
        write(texts, function, batch_size=2)
        assert function.batches == [['bb', 'a']]
        for other in set(rows_files(tmp_path)) - {path}:
            other.unlink()


def test_missing_items_are_rows_of_nan(write, tmp_path):
    (tmp_path / 'empty').touch()
    values = [
        'tea',
        None,
        '',
        b'',
        'half a pair \ud83d',
        float('nan'),
        pd.NA,
        tmp_path / 'nothing',
        tmp_path / 'empty',
        tmp_path,
    ]
    with pytest.warns(
        UserWarning, match='9 of 10 items are missing'
    ) as record:
        done = write(values, Lengths(), ids=list('ABCDEFGHIJ'))
    assert len(record) == 1
    assert record[0].filename == __file__
    message = str(record[0].message)
    assert 'B (no value), C (empty), D (empty), E (no valid Uni' in message
    assert message.endswith('F (no value), ...')
    assert done.missing.tolist() == [False] + [True] * 9
    assert np.isnan(np.load(done.path)).all(axis=1).tolist() == (
        done.missing.tolist()
    )
    assert list(done.reasons) == list(range(1, 10))
    assert done.reasons[7] == 'no such file'
    assert done.reasons[8] == 'empty file'
    assert 'directory' in done.reasons[9]
    assert (done.num_computed, done.num_cached) == (1, 0)


def test_rows_that_are_not_finite_are_missing(write):
    def function(values):
        return [[1.0, value] for value in values]

    values = [1.0, float('inf'), 1e300, 2.0]
    for call in range(2):
        with pytest.warns(UserWarning, match=r'2 of 4.*1 \(.*not finite\)'):
            done = write(values, function)
        assert done.missing.tolist() == [False, True, True, False]
        assert np.isnan(np.load(done.path)[1:3]).all()
        counts = (done.num_computed, done.num_cached)
        assert counts == ((2, 0), (0, 2))[call]


def test_what_cannot_be_loaded_does_not_move_batches(write):
    def load(text):
        if text.startswith('bad'):
            raise ValueError('not good')
        return text.upper()

    texts = ['a', 'bad 1', 'b', 'c', 'bad 2', 'd', 'bad 1', 'e']
    function = Lengths()
    with pytest.warns(UserWarning, match='3 of 8'):
        whole = write(texts, function, 'w.npy', 'o', load=load, batch_size=2)
    assert function.batches == [['A', 'B'], ['C', 'D'], ['E']]
    assert whole.reasons == dict.fromkeys((1, 4, 6), 'ValueError: not good')
    assert (whole.num_computed, whole.num_cached) == (5, 0)

    with pytest.raises(KeyboardInterrupt):
        write(texts, Lengths(1), load=load, batch_size=2)
    function = Lengths()
    with pytest.warns(UserWarning, match='3 of 8'):
        done = write(texts, function, load=load, batch_size=2)
    assert function.batches == [['C', 'D'], ['E']]
    assert (done.num_computed, done.num_cached) == (3, 2)
    assert done.path.read_bytes() == whole.path.read_bytes()


def test_reasons_name_the_error(write):
    errors = {'a': ValueError(), 'b': KeyError('pixels'), 'c': MemoryError()}

    def load(text):
        if text in errors:
            raise errors[text]
        return text

    with pytest.warns(UserWarning, match='3 of 4'):
        done = write(['a', 'b', 'c', 'd'], Lengths(), load=load)
    assert [*done.reasons.values()] == [
        'ValueError',
        "KeyError: 'pixels'",
        'MemoryError',
    ]


def test_where_everything_fails_the_first_error_is_shown(write):
    error = NameError("name 'transform' is not defined")

    def load(text):
        raise error if text == 'a' else RuntimeError

    message = 'none of the 2 .* 0 .NameError: .*, 1 .RuntimeError'
    with pytest.raises(ValueError, match=message) as found:
        write(['a', 'b'], Lengths(), load=load)
    assert found.value.__cause__ is error


def test_a_file_stands_for_its_content(write, tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.write_text('same')
    two.write_text('same')
    seen = []

    def function(paths):
        seen.extend(path.read_text() for path in paths)
        return [[len(path.read_text())] for path in paths]

    write([one, two], function)
    assert seen == ['same']
    # The time stamp and size do not matter.
    stat = two.stat()
    two.write_text('Same')
    os.utime(two, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    write([one, two], function)
    assert seen == ['same', 'Same']


@pytest.mark.parametrize('listed', [False, True])
def test_a_name_that_is_loaded_stands_for_itself_and_its_file(
    write, tmp_path, monkeypatch, listed
):
    monkeypatch.chdir(tmp_path)
    one, two = Path('one.txt'), Path('two.txt')
    one.write_text('same')
    two.write_text('same')
    seen = []

    def load(value):
        [name] = value if listed else [value]
        seen.append(name)
        return Path(name).read_text()

    def run():
        seen.clear()
        names = ['one.txt', 'two.txt', 'one.txt']
        return write(
            [[name] for name in names] if listed else names,
            lambda texts: [[ord(text[0])] for text in texts],
            load=load,
        )

    run()
    assert seen == ['one.txt', 'two.txt']
    run()
    assert seen == []
    one.write_text('Same')
    done = run()
    assert seen == ['one.txt']
    assert (done.num_computed, done.num_cached) == (2, 1)
    x = np.load(done.path)
    np.testing.assert_array_equal(x, [[ord('S')], [ord('s')], [ord('S')]])

    # A file that appears later is read then.
    two.unlink()
    with pytest.warns(UserWarning, match='1 of 3'):
        assert 'FileNotFoundError' in run().reasons[1]
    two.write_text('new')
    run()
    assert seen == ['two.txt']


def test_a_text_that_is_not_loaded_stands_for_itself(
    write, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write(['tea', 'cup', 'x' * 5000, 'a\0b'], Lengths())
    Path('tea').write_text('by chance named as an item is')
    function = Lengths()
    done = write(['tea', 'cup', 'x' * 5000, 'a\0b'], function)
    assert (function.batches, done.num_cached) == ([], 4)
    # Where a text is loaded, but names no file, it is the same text.
    done = write(['cup', 'x' * 5000, 'a\0b'], function, load=str)
    assert (function.batches, done.num_cached) == ([], 3)


def test_contents_are_told_apart(write):
    values = [
        'a',
        b'a',
        1,
        1.0,
        True,
        ['a'],
        ['a', 'a'],
        [['a'], 'a'],
        ['aa'],
        np.zeros(2),
        np.zeros((1, 2)),
        np.zeros(2, np.float32),
        np.zeros(2, np.int64),
        torch.zeros(2),
        torch.zeros(2, dtype=torch.bfloat16),
        torch.tensor(1.0),
        torch.zeros(2, 2)[:, 0],
    ]
    seen = []

    def function(batch):
        seen.extend(batch)
        return np.zeros((len(batch), 1))

    write(values, function)
    assert len(seen) == len(values) - 1  # The last is the one of `[0, 0]`.


def test_functions_run_without_gradients(write):
    weight = torch.ones(1, 2, requires_grad=True)

    def function(batch):
        assert torch.is_inference_mode_enabled()
        return (weight * torch.tensor(batch)[:, None]).to(torch.bfloat16)

    done = write([1.0, 2.0], function)
    np.testing.assert_array_equal(np.load(done.path), [[1, 1], [2, 2]])


def test_shows_progress(tmp_path, capsys):
    paths = {'cache_dir': tmp_path, 'key': 'k'}
    encode(['a', 'bb'], Lengths(), tmp_path / 'text.npy', **paths)
    assert 'text.npy, computed: 100%' in capsys.readouterr().err
    encode(['a'], Lengths(), tmp_path / 't.npy', **paths, progress=False)
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('values', 'kwargs', 'error', 'message'),
    [
        ('tea', {}, TypeError, "'values' needs to be a sequence .* one str"),
        ([], {}, ValueError, "'values' needs at least one item"),
        (['a'], {'out': 'x.txt'}, ValueError, "'out' .* .npy file .*x.txt"),
        (['a'], {'key': ''}, ValueError, "'key' needs to be a text"),
        (['a'], {'key': 1}, ValueError, "'key' needs to be a text"),
        (['a'], {'batch_size': 0}, ValueError, r"'batch_size' .*\(got 0"),
        (['a'], {'num_threads': 0}, ValueError, r"'num_threads' .*\(got 0"),
        (['a'], {'ids': [1, 2]}, ValueError, r"'ids' needs one id .*\(got 2"),
        (['a', {}], {}, TypeError, "'values' needs text.* item 1 is a dict"),
        (
            ['a', np.array(['a'], object)],
            {},
            TypeError,
            'item 1 is a ndarray',
        ),
        ([None, ''], {}, ValueError, r'none of the 2 .*0 \(no value\), 1'),
    ],
)
def test_refuses_arguments(write, values, kwargs, error, message):
    with pytest.raises(error, match=message):
        write(values, Lengths(), **kwargs)


@pytest.mark.parametrize(
    'result', [[1.0, 2.0], [[1.0]], [['a'], ['b']], np.zeros((2, 1, 1))]
)
def test_refuses_what_is_no_matrix(write, result):
    with pytest.raises(ValueError, match='one row for each of 2 items'):
        write(['a', 'b'], lambda texts: result)


def test_says_where_rows_cannot_be_kept(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match="'cache_dir'"):
        encode(
            ['a'],
            Lengths(),
            tmp_path / 'x.npy',
            key='k',
            cache_dir=tmp_path / 'file',
            progress=False,
        )
