import pytest
import torch

from pyg_sea.serving import _row_regression
from pyg_sea.serving._row_regression import RowRegression

unit = torch.nn.functional.normalize


def made(num=400, noise=0.0, width=6):
    """Rows that are a smooth function of features, and noise."""
    generator = torch.Generator().manual_seed(1)
    features = {
        name: unit(torch.randn(num, size, generator=generator), dim=1).half()
        for name, size in (('a', width), ('b', 4))
    }
    x = torch.cat([f.float() for f in features.values()], dim=1)
    weight = torch.randn(x.size(1), 5, generator=generator)
    rows = 2.0 + x @ weight + (x @ weight[:, [0]]).square()
    rows += noise * torch.randn(rows.shape, generator=generator)
    return features, rows


def test_smooth_rows_are_found():
    """Where the best linear function of features is far off."""
    features, rows = made()
    fit = RowRegression(features, rows[:300], torch.arange(300))
    found = fit(torch.arange(300, 400))
    error = (found - rows[300:]).square().mean()
    x = torch.cat([x.float() for x in features.values()], dim=1)
    x = torch.cat([x, torch.ones(400, 1)], dim=1)
    linear = x[300:] @ torch.linalg.lstsq(x[:300], rows[:300]).solution
    assert error < 0.1 * (linear - rows[300:]).square().mean()


def test_it_is_kernel_ridge_regression(monkeypatch):
    """Against sklearn's, on a kernel made here; no landmark is left out."""
    kernel_ridge = pytest.importorskip('sklearn.kernel_ridge')
    preprocessing = pytest.importorskip('sklearn.preprocessing')
    features, rows = made(noise=0.3)
    known = torch.arange(0, 300, 2)
    cosine = torch.zeros(400, 400, dtype=torch.double)
    for name, share in (('a', 0.25), ('b', 0.75)):
        x = features[name].double()
        x = unit(x - x[known].mean(dim=0), dim=1)
        cosine += share * x @ x.t()
    kernel = (cosine - 1).exp().numpy()[:, known]
    center = preprocessing.KernelCenterer().fit(kernel[known])
    kernel = center.transform(kernel)
    for ridge in (0.01, 1.0):
        ridges = torch.tensor([ridge], dtype=torch.double)
        monkeypatch.setattr(_row_regression, '_RIDGES', ridges)
        fit = RowRegression(features, rows, known, {'a': 0.2, 'b': 0.6})
        theirs = kernel_ridge.KernelRidge(alpha=ridge, kernel='precomputed')
        mean = rows[known].mean(dim=0)
        theirs.fit(kernel[known], (rows[known] - mean).numpy())
        wanted = mean + torch.from_numpy(theirs.predict(kernel))
        torch.testing.assert_close(fit(torch.arange(400)), wanted.float())


def test_only_known_items_are_learned_from():
    features, rows = made()
    known = torch.arange(0, 300, 2)
    wanted = RowRegression(features, rows, known)(torch.arange(400))
    rows[1::2] = 1e3
    features['a'][301::2] = 0.5
    found = RowRegression(features, rows, known)(torch.arange(400))
    assert torch.equal(found[:300], wanted[:300])
    assert torch.equal(found[300::2], wanted[300::2])


@pytest.mark.parametrize('noise', [0.1, 30.0])
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


def test_a_missing_modality_says_nothing():
    features, rows = made()
    lacking = {name: x.clone() for name, x in features.items()}
    lacking['a'][::3] = 0
    fit = RowRegression(lacking, rows[:300], torch.arange(300))
    there = lacking['a'][:300][lacking['a'][:300].any(dim=1)].double()
    torch.testing.assert_close(fit.means['a'], there.mean(dim=0))
    [found] = fit(torch.tensor([300]))
    # As if it were the mean itself, whose cosine is zero with all.
    fit.features = {**lacking, 'a': lacking['a'].double()}
    fit.features['a'][300] = there.mean(dim=0)
    torch.testing.assert_close(fit(torch.tensor([300]))[0], found)
    # One without all is the mean of none.
    fit.features = {name: torch.zeros_like(x) for name, x in features.items()}
    assert fit(torch.tensor([300])).isfinite().all()


def test_of_equal_ridges_it_is_the_largest(monkeypatch):
    """Any fits two items alike, once the mean is known."""
    features, rows = made()
    known, every = torch.tensor([3, 9]), torch.arange(400)
    found = RowRegression(features, rows, known)(every)
    largest = _row_regression._RIDGES[-1:]
    monkeypatch.setattr(_row_regression, '_RIDGES', largest)
    assert torch.equal(found, RowRegression(features, rows, known)(every))


def test_of_many_items_some_are_read(monkeypatch):
    features, rows = made()
    monkeypatch.setattr(_row_regression, '_MAX_ITEMS', 150)
    found = RowRegression(features, rows, torch.arange(400))
    monkeypatch.undo()
    known = torch.arange(150) * 400 // 150
    wanted = RowRegression(features, rows, known)
    assert torch.equal(found.weight, wanted.weight)


def test_landmarks_come_near_to_all(monkeypatch):
    features, rows = made(noise=0.1, width=2)
    known, new = torch.arange(300), torch.arange(300, 400)
    full = RowRegression(features, rows, known)(new)
    errors = []
    for num in (8, 64):
        monkeypatch.setattr(_row_regression, '_MAX_LANDMARKS', num)
        some = RowRegression(features, rows, known)
        assert some.weight.shape == (num, 5)
        errors.append((some(new) - full).square().mean())
    assert errors[1] < 0.05 * full.var(dim=0).mean() < errors[0]


def test_landmarks_are_evenly_spaced(monkeypatch):
    """Where alike items come together, all kinds are among them."""
    features, rows = made()
    order = features['a'][:, 0].argsort()
    features = {name: x[order] for name, x in features.items()}
    monkeypatch.setattr(_row_regression, '_MAX_LANDMARKS', 5)
    fit = RowRegression(features, rows[order], torch.arange(400))
    wanted = fit._centred(torch.tensor([0, 80, 160, 240, 320]))
    assert torch.equal(fit.landmarks['a'], wanted['a'])


def test_items_that_are_alike_are_no_harm():
    features, rows = made(100)
    alike = {n: x[:50].repeat(2, 1) for n, x in features.items()}
    found = RowRegression(alike, rows, torch.arange(100))(torch.arange(100))
    assert found.isfinite().all()
    torch.testing.assert_close(found[:50], found[50:])


def test_blocks_change_nothing(monkeypatch):
    features, rows = made()
    wanted = RowRegression(features, rows, torch.arange(300))
    monkeypatch.setattr(_row_regression, '_BLOCK_ROWS', 37)
    found = RowRegression(features, rows, torch.arange(300))
    every = torch.arange(400)
    torch.testing.assert_close(found(every), wanted(every))


def test_one_item_is_the_mean_of_all():
    features, rows = made()
    fit = RowRegression(features, rows, torch.tensor([7]))
    torch.testing.assert_close(fit(torch.tensor([300]))[0], rows[7])


def test_what_weighs_nothing_is_not_read():
    features, rows = made(noise=0.3)
    known = torch.arange(200)
    wanted = RowRegression({'b': features['b']}, rows, known)
    features['a'].fill_(float('nan'))
    alone = RowRegression(features, rows, known, {'a': 0.0, 'b': 0.3})
    every = torch.arange(400)
    assert torch.equal(alone(every), wanted(every))
