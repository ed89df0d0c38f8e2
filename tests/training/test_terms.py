import pytest
import torch

from pyg_sea.training.terms import LossTerms


@pytest.mark.parametrize('every', [1, 3, 100])
def test_means(every):
    terms = LossTerms(every)
    for value in range(7):
        terms.add({'a': torch.tensor(float(value)), 'b': torch.tensor(1.0)})
    terms.add({'a': torch.tensor(10.0, dtype=torch.bfloat16)})
    assert terms.means() == {'a': 31 / 8, 'b': 1.0}
    terms.add({'a': torch.tensor(5.0)})
    assert terms.means()['a'] == 4.0
    terms.start(1)
    assert terms.means() == {}


@pytest.mark.parametrize('every', [1, 3, 100])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_names_epoch_step_and_term(every, value):
    terms = LossTerms(every)
    terms.start(4)
    terms.add({'loss': torch.tensor(1.0), 'align/b-a': torch.tensor(1.0)})
    message = f"epoch 4, step 1: 'align/b-a' = {value}. "
    bad = {'loss': torch.tensor(1.0), 'align/b-a': torch.tensor(value)}
    if every == 1:
        with pytest.raises(FloatingPointError, match=message):
            terms.add(bad)
        return
    terms.add(bad)
    with pytest.raises(FloatingPointError, match=message):
        terms.flush()


def test_values_keep_no_graph():
    terms = LossTerms(every=5)
    terms.add({'loss': torch.ones((), requires_grad=True) * 2})
    assert not terms._window[0].requires_grad
