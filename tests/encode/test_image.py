import shutil
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ConvNextImageProcessorPil,
    ResNetConfig,
    ResNetModel,
    SegformerConfig,
    SegformerModel,
    ViTImageProcessorPil,
    ViTModel,
)

from pyg_sea.encode import encode_images, open_image

MEAN, STD = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])


@pytest.fixture
def photos(tmp_path):
    """Seven images of several sizes and formats."""
    rng = np.random.default_rng(0)
    sizes = [(40, 30), (32, 32), (1, 3), (3, 1), (3, 3), (100, 20), (64, 64)]
    paths = []
    for i, size in enumerate(sizes):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        path = tmp_path / f'{i}.{"png" if i % 2 else "jpg"}'
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


@pytest.fixture
def write(tmp_path, image_model):
    def write(paths, model=image_model, out='image.npy', **kwargs):
        cache_dir = tmp_path / kwargs.pop('cache_dir', 'cache')
        return encode_images(
            paths,
            model,
            tmp_path / out,
            cache_dir=cache_dir,
            progress=False,
            **kwargs,
        )

    return write


@pytest.fixture
def calls(monkeypatch):
    """The sizes of the batches that reach the model."""
    sizes = []
    forward = ViTModel.forward

    def spy(self, pixel_values, **kwargs):
        assert not self.training
        sizes.append(len(pixel_values))
        return forward(self, pixel_values=pixel_values, **kwargs)

    monkeypatch.setattr(ViTModel, 'forward', spy)
    return sizes


def prepared(path) -> torch.Tensor:
    """What the image processor's file says, by hand."""
    image = Image.open(path).convert('RGB').resize((32, 32), 2)
    x = (np.asarray(image) / 255 - MEAN) / STD
    return torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32))


@pytest.mark.parametrize('pooling', ['model', 'first', 'mean'])
def test_against_one_image_at_a_time(write, photos, image_model, pooling):
    x = np.load(write(photos, pooling=pooling, batch_size=3).path)
    vit = ViTModel.from_pretrained(image_model).eval()
    for row, path in zip(x, photos, strict=True):
        with torch.no_grad():
            out = vit(prepared(path))
        hidden = out.last_hidden_state[0]
        expected = {
            'model': out.pooler_output[0],
            'first': hidden[0],
            'mean': hidden.mean(dim=0),
        }[pooling]
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)


def test_broken_images_are_missing(write, photos, tmp_path, calls):
    whole = photos[0].read_bytes()
    bad = {
        'cut.jpg': whole[: len(whole) // 2],
        'head.jpg': whole[:10],
        'page.jpg': b'<html>404</html>',
        'none.jpg': b'',
    }
    paths = [photos[1], None, float('nan'), '', tmp_path / 'nowhere.jpg']
    for name, content in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        paths.append(str(path))
    paths.append(photos[2])
    with pytest.warns(UserWarning, match=r'8 of 10 .*no such file') as record:
        done = write(paths)
    assert len(record) == 1
    assert done.missing.tolist() == [False] + [True] * 8 + [False]
    assert 'truncated' in done.reasons[5]
    assert 'Truncated' in done.reasons[6]
    assert 'cannot identify' in done.reasons[7]
    assert done.reasons[8] == 'empty file'
    x = np.load(done.path)
    assert np.isnan(x).all(axis=1).tolist() == done.missing.tolist()
    assert calls == [2]
    # They are tried again, without the model.
    with pytest.warns(UserWarning, match='8 of 10'):
        again = write(paths)
    assert calls == [2]
    assert again.reasons == done.reasons
    # A repaired file counts.
    (tmp_path / 'cut.jpg').write_bytes(whole)
    with pytest.warns(UserWarning, match='7 of 10'):
        done = write(paths)
    assert calls == [2, 1]
    assert not done.missing[5]


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_bombs_are_missing(write, photos, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1500)
    with pytest.warns(UserWarning, match='2 of 7 items are missing'):
        done = write(photos)
    assert list(done.reasons) == [5, 6]  # 2,000 and 4,096 pixels.


def test_goes_on_to_the_last_bit(write, photos, monkeypatch):
    whole = write(photos, batch_size=2, cache_dir='other')
    forward = ViTModel.forward
    batches = []

    def interrupted(self, **kwargs):
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(kwargs)
        return forward(self, **kwargs)

    monkeypatch.setattr(ViTModel, 'forward', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(photos, batch_size=2, out='resumed.npy')
    monkeypatch.setattr(ViTModel, 'forward', forward)
    done = write(photos, batch_size=2, out='resumed.npy')
    assert (done.num_computed, done.num_cached) == (3, 4)
    assert done.path.read_bytes() == whole.path.read_bytes()


def test_pooling_precision_and_weights_tell_models(
    write, photos, calls, tmp_path, image_model, save_vit
):
    write(photos[:1])
    write(photos[:1], pooling='mean')
    write(photos[:1], half=True)
    assert calls == [1, 1, 1]
    moved = shutil.copytree(image_model, tmp_path / 'moved')
    write(photos[:1], moved)
    assert calls == [1, 1, 1]
    write(photos[:1], save_vit(tmp_path / 'other', hidden_act='relu'))
    assert calls == [1, 1, 1, 1]


def test_half_precision(write, photos):
    x = np.load(write(photos).path)
    y = np.load(write(photos, half=True).path)
    np.testing.assert_allclose(x, y, atol=1e-2)
    assert np.array_equal(y, y.astype(np.float16))


def test_images_are_read_while_the_model_computes(write, photos, monkeypatch):
    reading, computing, seen = threading.Event(), threading.Event(), []

    def read(path):
        if path == photos[3]:  # Of the second batch.
            reading.set()
            seen.append(computing.wait(20))
        return open_image(path)

    forward = ViTModel.forward

    def compute(self, **kwargs):
        computing.set()
        seen.append(reading.wait(20))
        return forward(self, **kwargs)

    monkeypatch.setattr('pyg_sea.encode.image.open_image', read)
    monkeypatch.setattr(ViTModel, 'forward', compute)
    write(photos[:4], batch_size=2)
    assert seen == [True] * 3


def test_clip(write, photos, tmp_path):
    config = CLIPConfig(
        text_config={
            'hidden_size': 8,
            'num_hidden_layers': 1,
            'num_attention_heads': 1,
            'intermediate_size': 8,
            'vocab_size': 10,
        },
        vision_config={
            'hidden_size': 16,
            'num_hidden_layers': 1,
            'num_attention_heads': 1,
            'intermediate_size': 8,
            'image_size': 32,
            'patch_size': 16,
        },
        projection_dim=6,
    )
    folder = tmp_path / 'clip'
    CLIPModel(config).save_pretrained(folder)
    size = {'size': {'shortest_edge': 32}, 'crop_size': 32}
    processor = CLIPImageProcessorPil(**size)
    processor.save_pretrained(folder)

    clip = CLIPModel.from_pretrained(folder).eval()
    images = [open_image(path) for path in photos]
    pixels = processor(images=images, return_tensors='pt')['pixel_values']
    with torch.no_grad():
        vision = clip.vision_model(pixels)
        expected = clip.visual_projection(vision.pooler_output)
    x = np.load(write(photos, folder).path)
    np.testing.assert_allclose(x, expected.numpy(), atol=1e-5)
    x = np.load(write(photos, folder, pooling='first').path)
    assert x.shape == (7, 16)
    first = vision.last_hidden_state[:, 0]
    np.testing.assert_allclose(x, first.numpy(), atol=1e-5)


def test_convolutions(write, photos, tmp_path):
    folder = tmp_path / 'resnet'
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1])
    ResNetModel(config).save_pretrained(folder)
    ConvNextImageProcessorPil(size={'shortest_edge': 32}).save_pretrained(
        folder
    )
    x = np.load(write(photos, folder).path)
    y = np.load(write(photos, folder, pooling='mean').path)
    assert x.shape == (7, 8)
    np.testing.assert_allclose(x, y, atol=1e-5)
    with pytest.raises(ValueError, match=r"has no tokens.*pooling='model'"):
        write(photos, folder, pooling='first')


def test_weights_are_never_drawn_at_random(write, photos, tmp_path, save_vit):
    folder = save_vit(tmp_path / 'no_pooler', pooler=False)
    with pytest.raises(ValueError, match=r"lacks .*pooler.*'first' or 'mean'"):
        write(photos, folder)
    x = np.load(write(photos, folder, pooling='mean').path)
    y = np.load(write(photos, folder, pooling='mean', cache_dir='b').path)
    np.testing.assert_array_equal(x, y)


def test_refuses_models(write, photos, tmp_path, image_model, text_model):
    with pytest.raises(ValueError, match="'pooling' needs to be one of"):
        write(photos, pooling='max')
    folder = shutil.copytree(image_model, tmp_path / 'copy')
    (folder / 'preprocessor_config.json').unlink()
    with pytest.raises(ValueError, match='AutoImageProcessor cannot load'):
        write(photos, folder)
    (folder / 'model.safetensors').unlink()
    shutil.copy(image_model / 'preprocessor_config.json', folder)
    with pytest.raises(ValueError, match='AutoModel cannot load'):
        write(photos, folder)
    with pytest.raises(TypeError, match="'paths' needs to be a sequence"):
        write(photos[0])
    with pytest.raises(ValueError, match="none of the 1 items in 'paths'"):
        write([tmp_path / 'nowhere.png'])


def test_models_without_pooling(write, photos, tmp_path):
    config = SegformerConfig(
        num_encoder_blocks=1,
        depths=[1],
        sr_ratios=[1],
        hidden_sizes=[8],
        patch_sizes=[7],
        strides=[4],
        num_attention_heads=[1],
        mlp_ratios=[1],
    )
    folder = tmp_path / 'segformer'
    SegformerModel(config).save_pretrained(folder)
    size = {'height': 32, 'width': 32}
    ViTImageProcessorPil(size=size).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"does not pool.*'first' or 'mean'"):
        write(photos, folder)
    assert np.load(write(photos, folder, pooling='mean').path).shape == (7, 8)


@pytest.mark.parametrize('module', ['transformers', 'PIL.Image'])
def test_says_which_extra_is_needed(write, photos, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "pyg_sea\[encode\]"'):
        write(photos)
