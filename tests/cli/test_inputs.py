import pandas as pd

from pyg_sea.datasets import MMRecDataset, from_pandas

from .made import edges, orders


def test_tables_as_spreadsheets_write_them(shop, call, tmp_path):
    table = orders(shop)
    # Read with the month first, they would be dates in the opposite order.
    day = pd.Series(
        pd.Timestamp(2026, old.day, 11 - old.day, old.hour)
        for old in pd.to_datetime(table['date'])
    )
    table['date'] = day.dt.strftime('%d.%m.%Y %H:%M')
    table['pieces'] = [f'{n},5' for n in table['pieces']]
    table.columns = ['Customer No.', 'Artikel', 'Order Date', 'Menge']
    path = tmp_path / 'orders.csv'
    table.to_csv(path, sep=';', index=False, encoding='utf-8-sig')
    items = pd.read_csv(shop / 'items.csv')
    items.columns = ['Artikel', 'Product Name']
    items.to_csv(tmp_path / 'items.csv', sep=';', index=False)
    args = ['prepare', '--interactions', path, '--weight', 'Menge']
    args += ['--item', 'Artikel']
    args += ['--items', tmp_path / 'items.csv', '--split', 'time']
    args += ['--text-model', 'models/text', '--out', tmp_path / 'out']
    out, err = call(*args)
    assert "user of orders.csv: the column 'Customer No.'" in out
    # It is called so there, too.
    assert "id of items.csv: the column 'Artikel'" in out
    assert "time of orders.csv: the column 'Order Date'" in out
    assert "text of items: the column 'Product Name'" in out
    assert 'dayfirst' not in err
    data = MMRecDataset(
        tmp_path / 'out', modalities={'text': 'text_feat.npy'}, weight='weight'
    )[0]
    store = data['user', 'buys', 'item']
    assert set(store.edge_weight.tolist()) == {1.5, 2.5, 3.5}
    expected = from_pandas(
        table.assign(when=day),
        {'none': pd.DataFrame({0: 1.0}, index=table['Artikel'].unique())},
        'Customer No.',
        'Artikel',
        'when',
        split='time',
    )
    assert edges(data) == edges(expected)
    table['Menge'] = 'two'
    table.to_csv(path, sep=';', index=False)
    _, err = call(*args, code=1)
    assert f"the weights 'Menge' of '{path}' need to be numbers" in err
    assert "(got 'two')" in err


def test_bad_tables(shop, call, tmp_path):
    def fails(items, code=1, interactions='orders.csv'):
        path = tmp_path / 'items.csv'
        path.write_bytes(items)
        args = ['--interactions', interactions, '--items', path]
        return call('prepare', *args, '--out', tmp_path / 'o', code=code)[1]

    assert "repeats the id 'a'" in fails(b'sku,title\na,x\na,y\n')
    assert '1 rows without an id' in fails(b'sku,title\na,x\n,y\n')
    assert 'no UTF-8 text' in fails('sku,title\na,ä\n'.encode('latin-1'))
    assert 'no table with a header' in fails(b'')
    assert 'holds no items, only names' in fails(b'sku,title\n')
    assert 'no item of the interactions is in' in fails(b'sku,title\na,x\n')
    assert 'say with --item-id' in fails(b'a,title\na,x\n', code=2)
    assert 'at least one of --text' in fails(b'sku,b\na,x\n', code=2)
    empty = tmp_path / 'none.csv'
    empty.write_text('customer_id,sku\n')
    err = fails(b'sku,title\na,x\n', interactions=empty)
    assert f"'{empty}' holds no interactions, only names of columns" in err
