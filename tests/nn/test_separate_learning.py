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
