import pytest
import torch

from pyg_sea.nn import CLUBLoss, NegativeL2Loss, SeparateLearning, SoloSimLoss

SIZES = {'text': 8, 'image': 12, 'v1.5': 6}


def rows(sizes=SIZES, num_rows=200):
    return {name: torch.randn(num_rows, size) for name, size in sizes.items()}


def test_terms_and_total_by_hand():
    separate = SeparateLearning(SIZES, alpha=0.3, beta=0.7)
    x = rows()
    parts, loss, terms = separate(x)
    assert list(parts) == list(SIZES)
    assert list(terms) == [
        'align/image-text',
        'align/v1.5-text',
        'align/v1.5-image',
        'distance/text',
        'distance/image',
        'distance/v1.5',
    ]
    assert parts['image'].generic.shape == (200, 3)  # Half of the narrowest.
    assert parts['image'].unique.shape == (200, 9)

    align = SoloSimLoss()
    expected = align(parts['image'].generic, parts['text'].generic)
    torch.testing.assert_close(terms['align/image-text'], expected)
    club = CLUBLoss(3, 9)
    expected = club(*parts['image'])
    torch.testing.assert_close(terms['distance/image'], expected)

    total = sum(
        (0.3 if name.startswith('align') else 0.7) * term
        for name, term in terms.items()
    )
    torch.testing.assert_close(loss, total)


def test_symmetric_adds_the_reverse():
    sizes = {'a': 4, 'b': 4}
    separate = SeparateLearning(sizes, beta=0.0, symmetric=True)
    out = separate(rows(sizes))
    a, b = (out.parts[name].generic for name in sizes)
    align = SoloSimLoss()
    expected = align(a, b) + align(b, a)
    torch.testing.assert_close(out.terms['align/b-a'], expected)


def test_one_modality_has_nothing_to_align():
    out = SeparateLearning({'text': 8}, beta=0.5)(rows({'text': 8}))
    assert list(out.terms) == ['distance/text']
    torch.testing.assert_close(out.loss, 0.5 * out.terms['distance/text'])


def test_weight_zero_is_not_computed():
    separate = SeparateLearning(SIZES, alpha=0.0, beta=0.0)
    out = separate(rows())
    assert out.terms == {}
    assert float(out.loss) == 0.0


def test_each_modality_has_its_own_estimator():
    separate = SeparateLearning({'a': 8, 'b': 8})
    separate(rows({'a': 8, 'b': 8}))
    a, b = (separate.distances[f'x_{name}'].estimator.weight for name in 'ab')
    assert not torch.equal(a, b)


def test_gradients_reach_inputs_and_splits_only():
    separate = SeparateLearning(SIZES, club_kwargs={'estimator': 'mlp'})
    x = {name: value.requires_grad_() for name, value in rows().items()}
    separate(x).loss.backward()
    for tensor in (*x.values(), *separate.parameters()):
        assert tensor.grad.abs().sum() > 0
    assert all(buffer.grad is None for buffer in separate.buffers())


def test_options_are_handed_on():
    separate = SeparateLearning(
        SIZES,
        generic_channels=4,
        unique_channels=5,
        temperature=0.5,
        num_anchors=7,
        club_kwargs={'estimator': 'mlp', 'num_steps': 3},
    )
    parts, _, _ = separate(rows())
    assert parts['text'].unique.shape == (200, 5)
    assert separate.align.temperature == 0.5
    assert separate.align.num_anchors == 7
    assert separate.distances['x_text'].estimator.num_steps == 3

    separate = SeparateLearning(
        {'a': 8, 'b': 8}, mode='slice', distance='negative_l2'
    )
    assert not list(separate.parameters())
    assert isinstance(separate.distances['x_a'], NegativeL2Loss)
    x = rows({'a': 8, 'b': 8})
    out = separate(x)
    expected = -(x['a'][:, :4] - x['a'][:, 4:]).square().mean()
    torch.testing.assert_close(out.terms['distance/a'], expected)


def test_state_dict_round_trip_and_reset():
    separate = SeparateLearning(SIZES)
    x = rows()
    expected = separate(x).loss
    other = SeparateLearning(SIZES)
    other.load_state_dict(separate.state_dict())
    torch.testing.assert_close(other.eval()(x).loss, expected)

    other.reset_parameters()
    with pytest.raises(RuntimeError, match='before its first fit'):
        other(x)
    assert 'alpha=0.03' in str(separate)


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        ({'alpha': -1.0}, 'alpha'),
        ({'beta': -1.0}, 'beta'),
        ({'distance': 'far'}, 'distance'),
        (
            {'distance': 'negative_l2', 'club_kwargs': {'lr': 0.1}},
            'club_kwargs',
        ),
    ],
)
def test_rejects_arguments(kwargs, match):
    with pytest.raises(ValueError, match=match):
        SeparateLearning(SIZES, **kwargs)


def test_rejects_input():
    separate = SeparateLearning(SIZES)
    x = rows()
    del x['image']
    with pytest.raises(ValueError, match='exactly the modalities'):
        separate(x)


def masks(**rows):
    out = {name: torch.zeros(200, dtype=torch.bool) for name in rows}
    for name, index in rows.items():
        out[name][index] = True
    return out


@pytest.mark.parametrize('symmetric', [False, True])
@pytest.mark.parametrize('distance', ['club', 'negative_l2'])
def test_items_count_for_what_they_have(distance, symmetric):
    sizes = {'text': 8, 'image': 8, 'v1.5': 8}
    separate = SeparateLearning(
        sizes, mode='slice', distance=distance, symmetric=symmetric
    )
    missing = masks(text=range(40), image=range(20, 90))
    x = {name: value.requires_grad_() for name, value in rows(sizes).items()}
    parts, loss, terms = separate(x, missing=missing)
    there = {name: ~missing.get(name, masks(a=[])['a']) for name in sizes}
    align = SoloSimLoss(symmetric=symmetric)
    for name in sizes:
        loss_of = CLUBLoss(4, 4) if distance == 'club' else NegativeL2Loss()
        pair = (part[there[name]] for part in parts[name])
        torch.testing.assert_close(terms[f'distance/{name}'], loss_of(*pair))
    for pair in (('image', 'text'), ('v1.5', 'text'), ('v1.5', 'image')):
        both = there[pair[0]] & there[pair[1]]
        expected = align(*(parts[name].generic[both] for name in pair))
        torch.testing.assert_close(terms['align/' + '-'.join(pair)], expected)

    loss.backward()
    for name in sizes:
        grad = x[name].grad
        assert grad.isfinite().all()
        assert torch.equal((grad != 0).any(dim=1), there[name])
    # Their values cannot matter.
    other = {
        name: torch.where(there[name].unsqueeze(1), value, torch.nan)
        for name, value in x.items()
    }
    torch.testing.assert_close(separate(other, missing=missing).loss, loss)


def test_masks_of_complete_modalities_change_nothing():
    x = rows()
    separate = SeparateLearning(SIZES)
    expected = separate(x)
    for missing in ({}, masks(text=[], image=[])):
        out = separate(x, missing=missing)
        for name, term in out.terms.items():
            torch.testing.assert_close(term, expected.terms[name])


@pytest.mark.parametrize('left', [0, 1])
@pytest.mark.parametrize('training', [True, False])
def test_too_few_items_make_no_term(left, training):
    separate = SeparateLearning(SIZES).train(training)
    x = {name: value.requires_grad_() for name, value in rows().items()}
    if not training:
        separate.distances['x_text'].fit(*separate.split(x)['text'])
        separate.distances['x_v1%2E5'].fit(*separate.split(x)['v1.5'])
    _, loss, terms = separate(x, missing=masks(image=range(left, 200)))
    zero = {'align/image-text', 'align/v1.5-image', 'distance/image'}
    for name, term in terms.items():
        assert (term.item() == 0) == (name in zero)
        assert term.requires_grad
    loss.backward()
    assert (x['image'].grad == 0).all()
    assert x['text'].grad.isfinite().all()


def test_rejects_masks():
    separate = SeparateLearning(SIZES)
    with pytest.raises(ValueError, match=r"unknown modalities \['smell'\]"):
        separate(rows(), missing=masks(smell=[0]))
    with pytest.raises(ValueError, match='masks of 200 booleans'):
        separate(rows(), missing={'text': torch.zeros(7).bool()})
