import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_sea.datasets import from_pandas
from pyg_sea.datasets._splits import time_split

BUYS = ('user', 'buys', 'item')
KEYS = ('edge_index', 'val_edge_index', 'test_edge_index')


def orders(seed: int = 0, num: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            'user': rng.choice([f'u{i}' for i in range(20)], num),
            'item': rng.choice([f'i{i}' for i in range(30)], num),
            'time': rng.permutation(num),
            'amount': rng.integers(1, 5, num),
        }
    ).drop_duplicates(['user', 'item'], ignore_index=True)


def titles(ids, seed: int = 0, width: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(len(ids), width)), index=list(ids))
    return frame.sample(frac=1, random_state=seed)


def pairs_of(data, key: str) -> set[tuple[object, object]]:
    user, item = data[BUYS][key].tolist()
    users, items = data['user'].external_id, data['item'].external_id
    return set(zip(users[user], items[item], strict=True))


ids = st.one_of(
    st.lists(st.text(max_size=4), min_size=3, max_size=8, unique=True),
    st.lists(
        st.integers(-(2**40), 2**40), min_size=3, max_size=8, unique=True
    ),
)


@settings(deadline=None, max_examples=60)
@given(st.data(), ids, ids)
@pytest.mark.filterwarnings('ignore:.*no train edge', 'ignore:.*repeat')
def test_conversion_keeps_every_pair_once(draw, users, items):
    pair = st.tuples(st.sampled_from(users), st.sampled_from(items))
    rows = draw.draw(st.lists(pair, max_size=60))
    rows += [(users[0], item) for item in items]
    table = pd.DataFrame(rows, columns=['user', 'item'])
    x = titles(items, draw.draw(st.integers(0, 9)))
    data = from_pandas(table, {'text': x}, seed=draw.draw(st.integers(0, 9)))

    # The maps are bijections onto the ids that occur.
    assert sorted(data['user'].external_id) == sorted({u for u, _ in rows})
    assert sorted(data['item'].external_id) == sorted(items)
    assert data['user'].num_nodes == len(data['user'].external_id)

    # The splits are disjoint and complete.
    splits = [pairs_of(data, key) for key in KEYS]
    assert sum(len(part) for part in splits) == len(set(rows))
    assert set.union(*splits) == set(rows)
    assert sum(data[BUYS][key].size(1) for key in KEYS) == len(set(rows))

    # Features follow their items.
    expected = x.loc[data['item'].external_id].to_numpy(np.float32)
    np.testing.assert_array_equal(data['item'].x_text.numpy(), expected)


def test_random_split_depends_on_the_seed_not_on_the_order_of_rows():
    table = orders()
    features = {'text': titles(table.item.unique())}
    first = from_pandas(table, features, seed=3)
    shuffled = from_pandas(
        table.sample(frac=1, random_state=1), features, seed=3
    )
    other = from_pandas(table, features, seed=4)
    for key in KEYS:
        assert torch.equal(first[BUYS][key], shuffled[BUYS][key])
    assert not torch.equal(first[BUYS].edge_index, other[BUYS].edge_index)


def test_leave_last_out():
    table = orders()
    features = {'text': titles(table.item.unique())}
    data = from_pandas(table, features, time='time', split='leave_last_out')
    by_time = table.sort_values('time').groupby('user')
    for key, position in (('test_edge_index', -1), ('val_edge_index', -2)):
        rows = by_time.nth(position)
        expected = set(zip(rows.user, rows['item'], strict=True))
        assert pairs_of(data, key) == expected


@pytest.mark.filterwarnings('ignore:.*no train edge')
def test_the_order_of_rows_decides_among_equal_times():
    table = pd.DataFrame(
        {
            'user': ['a', 'b', 'a', 'b', 'a', 'b', 'a'],
            'item': [9, 7, 8, 9, 7, 8, 9],
            'day': pd.to_datetime(['2024-05-01'] * 7),
        }
    )
    kwargs = {'time': 'day', 'split': 'leave_last_out'}
    features = {'text': titles([7, 8, 9])}
    first = table.iloc[:6]
    data = from_pandas(first, features, **kwargs)
    assert pairs_of(data, 'test_edge_index') == {('a', 7), ('b', 8)}
    assert pairs_of(data, 'val_edge_index') == {('a', 8), ('b', 9)}
    data = from_pandas(first.iloc[::-1], features, **kwargs)
    assert pairs_of(data, 'test_edge_index') == {('a', 9), ('b', 7)}
    # Of a repeated pair the last row counts.
    with pytest.warns(UserWarning, match='1 of 7 interactions repeat'):
        data = from_pandas(table, features, **kwargs)
    assert pairs_of(data, 'test_edge_index') == {('a', 9), ('b', 8)}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=12), st.data())
@pytest.mark.filterwarnings('ignore:.*no train edge')
def test_leave_last_out_with_ties_against_a_loop(times, draw):
    rows = [(user, item) for user in 'abc' for item in range(4)]
    rows = draw.draw(st.permutations(rows))
    table = pd.DataFrame(rows, columns=['user', 'item']).assign(time=times)
    data = from_pandas(
        table,
        {'text': titles(range(4))},
        time='time',
        split='leave_last_out',
    )
    by_time = table.sort_values('time', kind='stable').groupby('user')
    for key, position in (('test_edge_index', -1), ('val_edge_index', -2)):
        last = by_time.nth(position)
        expected = set(zip(last['user'], last['item'], strict=True))
        assert pairs_of(data, key) == expected


@pytest.mark.filterwarnings('ignore:.*no train edge')
def test_time_split_is_global_and_takes_dates():
    table = orders()
    table['time'] = pd.Timestamp('2024-01-01') + pd.to_timedelta(
        table['time'], 'h'
    )
    features = {'text': titles(table.item.unique())}
    data = from_pandas(table, features, time='time', split='time')
    labels = time_split(table['time'].to_numpy())
    for part, key in enumerate(KEYS):
        rows = table[labels == part]
        assert pairs_of(data, key) == set(
            zip(rows.user, rows['item'], strict=True)
        )


@pytest.mark.filterwarnings('ignore:.*no train edge')
def test_repeated_pairs_become_one():
    table = pd.DataFrame(
        {
            'user': ['a', 'a', 'a', 'a', 'b', 'b', 'b'],
            'item': [7, 8, 9, 7, 7, 8, 9],
            'time': [1, 2, 3, 4, 1, 2, 3],
            'weight': [0.5, 1, 1, 2, 3, 1, 1],
        }
    )
    features = {'image': titles([7, 8, 9])}
    with pytest.warns(UserWarning, match='1 of 7 interactions repeat'):
        data = from_pandas(
            table,
            features,
            time='time',
            weight='weight',
            split='leave_last_out',
        )
    # The second purchase of 7 makes it user a's last.
    assert pairs_of(data, 'test_edge_index') == {('a', 7), ('b', 9)}
    assert pairs_of(data, 'edge_index') == {('a', 8), ('b', 7)}
    assert data[BUYS].edge_weight.tolist() == [1, 3]


def test_weights_add_up():
    table = pd.concat([orders()] * 2)
    features = {'text': titles(table.item.unique())}
    with pytest.warns(UserWarning, match='repeat'):
        data = from_pandas(table, features, weight='amount')
    expected = table.groupby(['user', 'item'])['amount'].sum()
    user, item = data[BUYS].edge_index.tolist()
    keys = zip(
        data['user'].external_id[user],
        data['item'].external_id[item],
        strict=True,
    )
    assert data[BUYS].edge_weight.tolist() == [expected[key] for key in keys]


@pytest.mark.filterwarnings('ignore:.*no train edge')
def test_k_core_against_a_loop():
    rng = np.random.default_rng(2)
    table = pd.DataFrame(
        {
            'user': (rng.pareto(1, 400) * 5).astype(int),
            'item': (rng.pareto(1, 400) * 5).astype(int),
        }
    ).drop_duplicates()
    expected = set(zip(table.user, table['item'], strict=True))
    while True:
        users = pd.Series([u for u, _ in expected]).value_counts()
        items = pd.Series([i for _, i in expected]).value_counts()
        kept = {(u, i) for u, i in expected if users[u] >= 4 and items[i] >= 4}
        if kept == expected:
            break
        expected = kept
    assert 0 < len(expected) < len(table)
    x = {'text': titles(table['item'].unique())}
    data = from_pandas(table, x, k_core=4)
    assert set.union(*(pairs_of(data, key) for key in KEYS)) == expected
    with pytest.raises(ValueError, match="'k_core' = 99; lower it"):
        from_pandas(table, x, k_core=99)


def test_k_core_counts_distinct_pairs():
    table = pd.DataFrame({'user': ['a'] * 6, 'item': [1, 1, 1, 1, 1, 2]})
    with pytest.raises(ValueError, match='no interactions are left'):
        from_pandas(table, {'text': titles([1, 2])}, k_core=3)


def test_features_as_arrays_and_tensors():
    table = orders()
    table['item'] = table['item'].str[1:].astype(int) + 5
    items = np.sort(table['item'].unique())
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)

    data = from_pandas(table, {'array': x, 'tensor': torch.tensor(x)})
    assert data['item'].external_id.tolist() == items.tolist()
    assert np.array_equal(data['item'].x_array, x[items])
    assert np.array_equal(data['item'].x_tensor, x[items])

    order = np.random.default_rng(1).permutation(40)
    data = from_pandas(
        table, {'b': x[order], 'a': titles(range(40))}, item_ids=order
    )
    assert np.array_equal(data['item'].x_b, x[items])
    assert list(data['item'].keys())[1:3] == ['x_b', 'x_a']

    with pytest.raises(ValueError, match='100 ids and 40 rows'):
        from_pandas(table, {'a': x}, item_ids=range(100))
    with pytest.raises(ValueError, match=r"'item_ids' .* repeats .* 3"):
        from_pandas(table, {'a': x}, item_ids=[3] * 40)
    with pytest.raises(ValueError, match="say with 'item_ids'"):
        from_pandas(table, {'a': x[:30]})
    with pytest.raises(ValueError, match="say with 'item_ids'"):
        from_pandas(orders(), {'a': x})


def test_features_that_do_not_fit():
    table = orders()
    items = sorted(table.item.unique())
    with pytest.raises(ValueError, match=r"2 of 30 items, such as 'i0'"):
        from_pandas(table, {'a': titles(items[2:])})
    with pytest.raises(ValueError, match="repeats the item id 'i1'"):
        from_pandas(table, {'a': titles([*items, 'i1'])})
    with pytest.raises(ValueError, match='no features for 30 of 30'):
        from_pandas(table, {'a': titles(range(30))})
    x = titles(items)
    x.loc['i13', 0] = np.nan
    with pytest.raises(ValueError, match='in 1 of 30 items: i13'):
        from_pandas(table, {'a': x})
    with pytest.raises(TypeError, match='need to be floats'):
        from_pandas(table, {'a': pd.DataFrame({'name': items}, index=items)})
    with pytest.raises(ValueError, match='at least one modality'):
        from_pandas(table, {})


def test_features_of_other_items_are_left_out_quietly():
    table = orders()
    features = {'a': titles([*table.item.unique(), 'never sold'])}
    features['a'].loc['never sold'] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        data = from_pandas(table, features, normalize='l2')
    assert data['item'].num_nodes == table.item.nunique()
    assert torch.allclose(data['item'].x_a.norm(dim=1), torch.ones(30))
    assert data.validate(raise_on_error=True)


def _with(column: str, value: object) -> pd.DataFrame:
    table = orders()
    table[column] = table[column].astype(object)
    table.loc[4, column] = value
    return table


@pytest.mark.parametrize(
    ('table', 'arguments', 'error', 'message'),
    [
        (orders().drop(columns='user'), {}, ValueError, "column 'user'"),
        (orders(), {'item': 'sku'}, ValueError, "argument 'item'"),
        (orders(), {'weight': 'w'}, ValueError, "argument 'weight'"),
        (orders().iloc[:0], {}, ValueError, 'is empty'),
        (orders().to_numpy(), {}, TypeError, 'pandas DataFrame'),
        (_with('user', None), {}, ValueError, '1 rows, the first is 4'),
        (_with('item', np.nan), {}, ValueError, '1 rows, the first is 4'),
        (_with('user', 12), {}, TypeError, 'got mixed-integer'),
        (_with('time', None), {'time': 'time'}, ValueError, 'first is 4'),
        (_with('time', 'x'), {'time': 'time'}, TypeError, 'to_datetime'),
        (_with('amount', 'x'), {'weight': 'amount'}, TypeError, 'numbers'),
        (
            orders().assign(amount=-1),
            {'weight': 'amount'},
            ValueError,
            'finite and positive',
        ),
        (orders(), {'split': 'last'}, ValueError, "got 'last'"),
        (orders(), {'split': 'time'}, ValueError, "argument 'time'"),
        (orders(), {'k_core': 0}, ValueError, 'positive integer or None'),
        (
            orders().drop_duplicates('user'),
            {},
            ValueError,
            'the validation split is empty',
        ),
        (
            orders().assign(time=1),
            {'split': 'time', 'time': 'time'},
            ValueError,
            'the validation split is empty',
        ),
    ],
)
def test_malformed_tables(table, arguments, error, message):
    features = {'text': titles(orders().item.unique())}
    with pytest.raises(error, match=message):
        from_pandas(table, features, **arguments)


def test_isolated_nodes_are_counted():
    table = pd.DataFrame(
        {
            'user': ['a'] * 8 + ['b', 'c'],
            'item': [*'stuvwxyz', 'x', 'y'],
            'time': range(10),
        }
    )
    features = {'text': titles('stuvwxyz')}
    with pytest.warns(UserWarning, match='2 of 3 users have no train edge'):
        from_pandas(table, features, time='time', split='time')


def test_mapped_features_equal_those_in_memory(tmp_path, file_of):
    table = orders()
    items = np.array(sorted(table.item.unique()))
    rng = np.random.default_rng(0)
    np.save(tmp_path / 'x.npy', rng.normal(size=(40, 5)).astype(np.float32))
    photos = np.load(tmp_path / 'x.npy', mmap_mode='r')
    ids = [f'i{i}' for i in rng.permutation(40)]
    features = {'photo': photos, 'clip': torch.randn(40, 2)}
    for normalize in (None, 'standard'):
        kept = from_pandas(table, features, item_ids=ids, normalize=normalize)
        for _ in range(2):
            mapped = from_pandas(
                table,
                features | {'title': titles(items)},
                item_ids=ids,
                normalize=normalize,
                mmap=True,
                cache_dir=tmp_path / 'cache',
            )
            for key in ('x_photo', 'x_clip'):
                assert torch.equal(kept['item'][key], mapped['item'][key])
                path = file_of(mapped['item'][key])
                assert path.parent == tmp_path / 'cache'
    # Their content is their name.
    assert len(list((tmp_path / 'cache').iterdir())) == 2 * 3


@pytest.mark.parametrize('mode', ['r', 'c', 'r+'])
def test_arrays_that_are_mapped_just_so_are_not_copied(
    tmp_path, file_of, mode
):
    table = orders()
    items = sorted(table.item.unique())
    path, cache = tmp_path / 'x.npy', tmp_path / 'cache'

    def convert(x, items):
        data = from_pandas(
            table, {'a': x}, item_ids=items, mmap=True, cache_dir=cache
        )
        return data['item'].x_a

    np.save(path, np.ones((len(items), 5), np.float32))
    x = np.load(path, mmap_mode=mode)
    found = convert(x, items)
    assert file_of(found) == path
    assert not cache.exists()
    if mode == 'r':
        found.zero_()
        assert (np.load(path) == 1).all()

    # A part of a file, and rows in another order, are no such file.
    np.save(path, np.ones((1 + len(items), 5), np.float32))
    x = np.load(path, mmap_mode=mode)
    assert file_of(convert(x[1:], items)).parent == cache
    assert file_of(convert(x[1:], items[::-1])).parent == cache


@pytest.mark.parametrize('mmap', [False, True])
def test_items_lack_a_modality(tmp_path, mmap):
    table = orders()
    items = sorted(table.item.unique())
    x = titles(items)
    x.loc[items[2]] = np.nan
    photos = np.random.default_rng(0).normal(5, 1, size=(len(items), 3))
    photos[[0, 1]] = np.nan
    arguments = {
        'features': {'text': x, 'photo': photos},
        'item_ids': items,
        'normalize': {'photo': 'standard'},
        'mmap': mmap,
        'cache_dir': tmp_path,
    }
    message = rf"'text': 1 of {len(items)} items, modality 'photo': 2 of"
    with pytest.warns(UserWarning, match=message):
        data = from_pandas(table, **arguments)
    item = data['item']
    where = [(item[f'x_{m}'] == 0).all(dim=1) for m in ('text', 'photo')]
    found = [mask.nonzero().flatten().tolist() for mask in where]
    assert found == [[2], [0, 1]]
    there = item.x_photo[2:]
    assert there.mean(dim=0).abs().max() < 1e-6
    torch.testing.assert_close(
        there.std(dim=0, correction=0), torch.full((3,), 3**-0.5)
    )
    x.loc[items[2], 0] = 1.0
    with pytest.raises(
        ValueError, match=f'1 of {len(items)} items: {items[2]}'
    ):
        from_pandas(table, **arguments)
