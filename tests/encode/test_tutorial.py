"""The scripts of "Your own encoder", which need weights, with others.

Blocks of the page that need none are run with those of all pages. The others
are marked `py`, and run here as they stand.
"""

import re
import shlex
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from pyg_sea.cli import main
from pyg_sea.datasets import MMRecDataset
from pyg_sea.encode import open_image

PAGE = Path(__file__).parents[2] / 'docs' / 'tutorials' / 'encoders.md'


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding='utf-8')
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.M | re.S)


def run(block: str) -> dict:
    namespace = {'__name__': '__main__'}
    exec(compile(block, PAGE.name, 'exec'), namespace)
    return namespace


def script(word: str) -> str:
    [block] = [block for block in blocks('py') if word in block]
    return block


@pytest.fixture(autouse=True)
def shop(tmp_path, monkeypatch):
    """What the page starts with, in an empty folder with an empty cache."""
    monkeypatch.setenv('PYG_HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    run(blocks('python')[0])
    return tmp_path


class Net(nn.Module):
    """Small, random, and counts the rows that it computes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.image = nn.Linear(3 * 8 * 8, 6)
        self.text = nn.EmbeddingBag(128, 6)
        self.dropout = nn.Dropout()
        self.counts = Counter()

    def forward(self, x):
        assert x.shape[1:] == (3, 8, 8)
        self.counts['image'] += len(x)
        return self.dropout(self.image(x.flatten(1)))

    encode_image = forward

    def encode_text(self, tokens):
        self.counts['text'] += len(tokens)
        return self.dropout(self.text(tokens))


def prepared(image):
    assert image.mode == 'RGB'
    x = np.array(image.resize((8, 8)), np.float32) / 255
    return torch.from_numpy(x).permute(2, 0, 1)


def tokenized(texts):
    assert isinstance(texts, list)
    codes = [list(text.encode().ljust(32)) for text in texts]
    return torch.tensor(codes)


@pytest.fixture
def net():
    return Net()


@pytest.fixture
def fake_timm(net, monkeypatch):
    """The part of timm that the page calls."""

    def create_model(model_name, pretrained=False, num_classes=1000):
        assert pretrained
        assert num_classes == 0
        assert re.fullmatch(r'\w+\.\w+', model_name)
        return net

    def resolve_model_data_config(model):
        assert model is net
        return {'input_size': (3, 8, 8), 'crop_pct': 1.0}

    def create_transform(input_size, is_training=True, crop_pct=None):
        assert (input_size, crop_pct) == ((3, 8, 8), 1.0)
        assert not is_training
        return prepared

    timm = ModuleType('timm')
    timm.__version__ = '1'
    timm.create_model = create_model
    timm.data = SimpleNamespace(
        resolve_model_data_config=resolve_model_data_config,
        create_transform=create_transform,
    )
    monkeypatch.setitem(sys.modules, 'timm', timm)


@pytest.fixture
def fake_open_clip(net, monkeypatch):
    """The part of open_clip that the page calls."""

    def create_model_and_transforms(model_name, pretrained=None, device='cpu'):
        assert pretrained
        return net.to(device), None, prepared

    def get_tokenizer(model_name):
        return tokenized

    open_clip = ModuleType('open_clip')
    open_clip.__version__ = '1'
    open_clip.create_model_and_transforms = create_model_and_transforms
    open_clip.get_tokenizer = get_tokenizer
    monkeypatch.setitem(sys.modules, 'open_clip', open_clip)


def run_with_a_broken_photo(block: str) -> dict:
    with pytest.warns(UserWarning, match='1 of 8 items are missing') as found:
        out = run(block)
    assert 'sku-7' in str(found[0].message)
    return out


def expected_images(net, num_sound: int = 7) -> np.ndarray:
    """Rows of one photo at a time, NaN for the broken ones."""
    rows = np.full((8, 6), np.nan)
    net = net.cpu()
    for i in range(num_sound):
        x = prepared(open_image(f'photos/sku-{i}.png'))[None]
        with torch.inference_mode():
            rows[i] = net(x)[0].numpy()
    return rows


def assert_close(path: str, expected: np.ndarray) -> None:
    x = np.load(path)
    assert x.dtype == np.float32
    assert x.shape == expected.shape
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-5)


def test_timm(net, fake_timm, capsys):
    block = script('import timm')
    done = run_with_a_broken_photo(block)['done']
    assert net.counts == {'image': 7}
    assert_close('image.npy', expected_images(net))
    assert 'cannot identify image file' in done.reasons[7]
    assert capsys.readouterr().out == '7 computed, 0 cached\n'

    # Once more, with the photo repaired and another one drawn anew.
    net.counts.clear()
    first = Path('image.npy').read_bytes()
    run_with_a_broken_photo(block)
    assert net.counts == {}
    assert Path('image.npy').read_bytes() == first
    assert capsys.readouterr().out == '0 computed, 7 cached\n'
    Image.new('RGB', (9, 9), 'gold').save('photos/sku-7.png')
    Image.new('RGB', (60, 40), 'grey').save('photos/sku-2.png')
    done = run(block)['done']
    assert net.counts == {'image': 2}
    assert not done.missing.any()
    assert_close('image.npy', expected_images(net, 8))


def test_open_clip(net, fake_open_clip, capsys):
    block = script('import open_clip')
    run_with_a_broken_photo(block)
    assert net.counts == {'image': 7, 'text': 8}
    assert_close('image.npy', expected_images(net))
    with torch.inference_mode():
        titles = pd.read_csv('items.csv')['title'].tolist()
        rows = net.cpu().encode_text(tokenized(titles)).numpy()
    assert_close('text.npy', rows)
    assert 'computed, 0 cached' in capsys.readouterr().out

    net.counts.clear()
    run_with_a_broken_photo(block)
    assert net.counts == {}


def test_timm_itself(monkeypatch, capsys):
    timm = pytest.importorskip('timm')
    create = timm.create_model

    def create_small(name, pretrained, **kwargs):
        assert timm.is_model_pretrained(name)  # There are such weights.
        return create('resnet10t', pretrained=False, **kwargs)

    monkeypatch.setattr(timm, 'create_model', create_small)
    run_with_a_broken_photo(script('import timm'))
    assert np.load('image.npy').shape == (8, 512)
    assert capsys.readouterr().out == '7 computed, 0 cached\n'


def test_open_clip_itself(monkeypatch, capsys):
    open_clip = pytest.importorskip('open_clip')
    create = open_clip.create_model_and_transforms

    def create_random(name, pretrained, **kwargs):
        assert (name, pretrained) in open_clip.list_pretrained()
        return create(name, pretrained=None, **kwargs)

    monkeypatch.setattr(
        open_clip, 'create_model_and_transforms', create_random
    )
    run_with_a_broken_photo(script('import open_clip'))
    assert np.load('image.npy').shape == (8, 512)
    x = np.load('text.npy')
    assert x.shape == (8, 512)
    assert len(np.unique(x, axis=0)) == 8
    out = capsys.readouterr().out
    assert out == '7 computed, 0 cached\n8 computed, 0 cached\n'


def test_by_name(text_model, image_model):
    block = script('import encode_images')
    for name, model in (
        ('sentence-transformers/all-MiniLM-L6-v2', text_model),
        ('openai/clip-vit-base-patch32', image_model),
    ):
        assert name in block
        block = block.replace(name, str(model))
    out = run_with_a_broken_photo(block)
    assert np.load('text.npy').shape == np.load('image.npy').shape == (8, 16)
    assert not out['texts'].missing.any()
    assert np.flatnonzero(out['images'].missing).tolist() == [7]


def test_the_file_goes_into_training(fake_timm, capsys):
    run_with_a_broken_photo(script('import timm'))
    rows = np.load('image.npy')
    [command] = blocks('bash')
    name, *args = shlex.split(command.replace('\\\n', ''))
    assert name == 'pyg-sea'
    assert main(args) == 0
    assert '7 of 8 items have features, not sku-7' in capsys.readouterr().out
    with pytest.warns(UserWarning, match='image'):
        item = MMRecDataset(
            'data/shop', modalities={'image': 'image_feat.npy'}
        )[0]['item']
    assert item.external_id == [f'sku-{i}' for i in range(8)]
    assert_close('image.npy', np.load('data/shop/image_feat.npy'))
    np.testing.assert_allclose(item.x_image, np.nan_to_num(rows))

    # The end of the page, in Python, with the same file.
    start, _, end = blocks('python')
    with pytest.warns(UserWarning, match='image'):
        data = run(f'{start}\n{end}')['data']
    assert data['item'].external_id.tolist() == item.external_id
    lacks = (data['item'].x_image == 0).all(dim=1)
    assert lacks.nonzero().flatten().tolist() == [7]
