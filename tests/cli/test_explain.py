import pytest


def test_explain(run, process, shop):
    args = ['0007', 'sku-01', '--plot', 'why.png', '--k', '2']
    out, _ = process('explain', 'runs/shop', *args)
    why = run.recommender().explain('0007', 'sku-01')
    first = f'sku-01 (green cup) for 0007: score {why.score:.4f}'
    assert out.splitlines()[0] == first
    because = out.splitlines().index('because of (6 items of the user)')
    header, *items = [x.split() for x in out.splitlines()[because + 1 :]][:3]
    assert header == ['item', 'title', 'similarity', 'contribution']
    assert [row[0] for row in items] == why.because['item'].tolist()[:2]
    parts = [line.split() for line in out.splitlines()[3 : because - 1]]
    total = sum(float(row[-1]) for row in parts)
    assert total == pytest.approx(why.score, abs=1e-3)
    assert f'own vector adds {why.user_vector:.4f}' in out
    image = (shop / 'why.png').read_bytes()
    assert image.startswith(b'\x89PNG')


@pytest.mark.parametrize(
    ('args', 'code', 'message'),
    [
        ('runs/shop eve sku-01', 1, "unknown user ids: 'eve'"),
        ('runs/shop 0007 x', 1, "unknown item ids: 'x'"),
        ('runs/shop 0007 sku-01 --plot a.x', 2, 'ending .png, .pdf'),
    ],
)
def test_bad_input(trained, refuses, args, code, message):
    refuses('explain', args, code, message)
