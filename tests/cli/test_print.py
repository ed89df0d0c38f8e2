import pandas as pd

from pyg_sea.cli._print import metrics_table, show


def test_numbers_stand_to_the_right_and_texts_to_the_left(capsys):
    show(
        pd.DataFrame(
            {
                'item': ['a', 'bcd'],
                'rank': [1, 10],
                'score': [0.5, -12.0],
                'title': ['x', 'y' * 61],
            }
        )
    )
    assert capsys.readouterr().out.splitlines() == [
        'item  rank     score  title',
        'a        1    0.5000  x',
        'bcd     10  -12.0000  ' + 'y' * 57 + '...',
    ]


def test_of_no_rows_there_is_the_header(capsys):
    show(pd.DataFrame({'item': [], 'score': []}))
    assert capsys.readouterr().out == 'item  score\n'


def test_metrics_have_a_row_per_model():
    table = metrics_table('test', {'A': {'r': 0.5}, 'B': {'r': 0.25}})
    assert list(table) == ['test', 'r']
    assert table.to_numpy().tolist() == [['A', 0.5], ['B', 0.25]]
