import pytest


def test_report(run, process, shop):
    out, _ = process('report', 'runs/shop', '--out', 'report.html')
    assert out == f'written to {shop / "report.html"}\n'
    page = (shop / 'report.html').read_text(encoding='utf-8')
    assert '<h1>SEA on shop</h1>' in page
    assert 'green cup' in page
    for value in run.metrics['test'].values():
        assert f'{value:.4f}' in page
    # Counted as `train` does, which says it of this run.
    assert f'<dd>{run.metrics["best_epoch"] + 1}\n' in page


@pytest.mark.parametrize(
    ('args', 'code', 'message'),
    [
        ('nowhere --out x.html', 1, "'pyg-sea train' makes one"),
        ('runs/more --out x.HTM', 1, 'name the run behind it'),
        # Before the folder is looked at.
        (
            'nowhere --out x',
            2,
            "for '--out': a name that ends in .html or .htm is needed (got "
            "'x')",
        ),
        ('runs/shop --out r.pdf', 2, "(got 'r.pdf')"),
        ('runs/shop', 2, "Missing option '--out'"),
    ],
)
def test_bad_input(added, refuses, args, code, message):
    refuses('report', args, code, message)
