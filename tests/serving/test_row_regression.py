import pytest
import torch

from pyg_sea.serving import _row_regression
from pyg_sea.serving._row_regression import RowRegression

unit = torch.nn.functional.normalize


def made(num=400, noise=0.0, width=6):
    """Rows that are a linear function of features, and noise."""
    generator = torch.Generator().manual_seed(1)
    features = {
        name: unit(torch.randn(num, size, generator=generator), dim=1).half()
        for name, size in (('a', width), ('b', 4))
    }
    x = torch.cat([f.float() for f in features.values()], dim=1)
    weight = torch.randn(x.size(1), 5, generator=generator)
    rows = 2.0 + x @ weight
    rows += noise * torch.randn(rows.shape, generator=generator)
    return features, rows


def test_linear_rows_are_found():
    features, rows = made()
    fit = RowRegression(features, rows[:300], torch.arange(300))
    found = fit(torch.arange(300, 400))
    torch.testing.assert_close(found, rows[300:], rtol=0, atol=2e-3)


def test_only_known_items_are_learned_from():
    features, rows = made()
    known = torch.arange(0, 300, 2)
    wanted = RowRegression(features, rows, known)(torch.arange(400))
    rows[1::2] = 1e3
    found = RowRegression(features, rows, known)(torch.arange(400))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize('noise', [0.3, 30.0])
def test_the_ridge_predicts_best(noise, monkeypatch):
    features, true = made(60, 0.0)
    rows = made(60, noise)[1]
    known, new = torch.arange(30), torch.arange(30, 60)
    errors = []
    for ridge in _row_regression._RIDGES:
        with monkeypatch.context() as patch:
            patch.setattr(_row_regression, '_RIDGES', ridge.view(1))
            found = RowRegression(features, rows, known)(new)
        errors.append(float((found - true[new]).square().mean()))
    found = RowRegression(features, rows, known)(new)
    error = float((found - true[new]).square().mean())
    # The more noise, the more of a ridge.
    assert error <= 1.5 * min(errors)
    assert error < 0.5 * errors[0 if noise > 1 else -1]


def test_a_missing_modality_is_taken_for_the_mean():
    features, rows = made()
    lacking = {name: x.clone() for name, x in features.items()}
    lacking['a'][::3] = 0
    fit = RowRegression(lacking, rows[:300], torch.arange(300))
    there = lacking['a'][:300][lacking['a'][:300].any(dim=1)].float()
    torch.testing.assert_close(fit.means['a'], there.mean(dim=0))
    [found] = fit(torch.tensor([300]))
    other = {**lacking, 'a': lacking['a'].float()}
    other['a'][300] = there.mean(dim=0)
    fit.features = other
    torch.testing.assert_close(fit(torch.tensor([300]))[0], found)


def test_wide_modalities_are_projected():
    features, rows = made(900, width=700)
    fit = RowRegression(features, rows, torch.arange(800))
    assert fit.weight.shape == (512 + 4, 5)
    new = torch.arange(800, 900)
    error = (fit(new) - rows[new]).square().mean()
    assert error < 0.8 * rows[new].var(dim=0).mean()
    assert torch.equal(
        fit(new), RowRegression(features, rows, torch.arange(800))(new)
    )


def test_of_many_items_some_are_read(monkeypatch):
    features, rows = made()
    monkeypatch.setattr(_row_regression, '_MAX_ITEMS', 150)
    found = RowRegression(features, rows, torch.arange(400))
    monkeypatch.undo()
    wanted = RowRegression(features, rows, torch.arange(0, 400, 3))
    assert torch.equal(found.weight, wanted.weight)


def test_one_item_is_the_mean_of_all():
    features, rows = made()
    fit = RowRegression(features, rows, torch.tensor([7]))
    torch.testing.assert_close(fit(torch.tensor([300]))[0], rows[7])


def test_modalities_count_what_they_weigh():
    """As columns scaled before; what weighs nothing is not read."""
    features, rows = made(noise=0.3)
    known = torch.arange(200)
    fit = RowRegression(features, rows, known, {'a': 0.25, 'b': 0.75})
    scaled = {'a': 0.5 * features['a'], 'b': 1.5 * features['b'].float()}
    wanted = RowRegression(scaled, rows, known)(torch.arange(400))
    torch.testing.assert_close(fit(torch.arange(400)), wanted)
    alone = RowRegression(features, rows, known, {'b': 0.3})
    wanted = RowRegression({'b': features['b']}, rows, known)
    torch.testing.assert_close(
        alone(torch.arange(400)), wanted(torch.arange(400))
    )
