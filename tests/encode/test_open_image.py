import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from pyg_sea.encode import open_image

ORIENTATION = 0x0112


def opened(path) -> np.ndarray:
    image = open_image(path)
    assert image.mode == 'RGB'
    return np.asarray(image)


@pytest.mark.parametrize(
    ('orientation', 'turn'),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.swapaxes(0, 1)),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: np.rot90(x, 2).swapaxes(0, 1)),
        (8, lambda x: np.rot90(x)),
    ],
)
@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_orientation(tmp_path, orientation, turn, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f'x.{suffix}'
    Image.fromarray(pixels).save(path, exif=exif)
    np.testing.assert_array_equal(opened(path), turn(pixels))


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_damaged_exif(tmp_path, suffix):
    path = tmp_path / f'x.{suffix}'
    image = Image.new('RGB', (8, 6))
    image.save(path, exif=b'Exif\0\0no exif at all')
    assert opened(path).shape == (6, 8, 3)
    # The orientation holds, whatever else is wrong: here 6, and a maker that
    # is no text but a number.
    entries = struct.pack('<HHIHxx', ORIENTATION, 3, 1, 6)
    entries += struct.pack('<HHIf', 0x010F, 11, 1, 2.5)
    head = b'Exif\0\0II*\0' + struct.pack('<IH', 8, 2)
    image.save(path, exif=head + entries + bytes(4))
    with pytest.raises(AttributeError):
        ImageOps.exif_transpose(Image.open(path))
    assert opened(path).shape == (8, 6, 3)


def test_transparency_is_laid_on_white(tmp_path):
    path = tmp_path / 'x.png'
    pixels = np.array(
        [[[0, 0, 0, 255], [0, 0, 0, 0], [100, 0, 200, 51]]], np.uint8
    )
    Image.fromarray(pixels, 'RGBA').save(path)
    expected = [[[0, 0, 0], [255, 255, 255], [224, 204, 244]]]
    np.testing.assert_array_equal(opened(path), expected)

    grey = np.array([[[10, 255], [10, 0]]], np.uint8)
    Image.fromarray(grey, 'LA').save(path)
    np.testing.assert_array_equal(opened(path)[0, :, 0], [10, 255])

    image = Image.new('P', (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(path, transparency=1)
    assert opened(path).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    image.save(path)
    assert opened(path).tolist() == [[[255, 0, 0], [0, 0, 255]]]


@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_sixteen_bits(tmp_path, suffix):
    path = tmp_path / f'x.{suffix}'
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(path)
    assert Image.open(path).mode.startswith('I')
    expected = np.repeat((values // 256)[..., None], 3, axis=2)
    np.testing.assert_array_equal(opened(path), expected)


def test_other_modes(tmp_path):
    grey = Image.new('L', (2, 2), 77)
    grey.save(tmp_path / 'grey.png')
    assert opened(tmp_path / 'grey.png').tolist() == [[[77] * 3] * 2] * 2
    Image.new('1', (2, 2), 1).save(tmp_path / 'bits.png')
    assert (opened(tmp_path / 'bits.png') == 255).all()
    ink = Image.new('CMYK', (16, 16), (0, 255, 255, 0))
    for name in ('ink.tif', 'ink.jpg'):
        ink.save(tmp_path / name)
        red = opened(tmp_path / name)
        np.testing.assert_allclose(red[8, 8], [255, 0, 0], atol=3)


@pytest.mark.parametrize('suffix', ['gif', 'webp', 'png'])
def test_first_frame(tmp_path, suffix):
    path = tmp_path / f'x.{suffix}'
    frames = [Image.new('RGB', (8, 8), c) for c in ('red', 'lime', 'blue')]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert Image.open(path).n_frames == 3
    np.testing.assert_allclose(opened(path)[4, 4], [255, 0, 0], atol=3)


def test_refuses_bombs(tmp_path, monkeypatch):
    path = tmp_path / 'x.png'
    Image.new('L', (40, 30)).save(path)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1200)
    assert opened(path).shape == (30, 40, 3)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1199)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(ValueError, match='40 x 30 pixels are more than'),
    ):
        open_image(path)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    with pytest.raises(Image.DecompressionBombError):
        open_image(path)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    assert opened(path).shape == (30, 40, 3)


def test_refuses_truncated_files(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ('x.png', 'x.jpg', 'x.gif'):
        path = tmp_path / name
        Image.fromarray(pixels).save(path)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(OSError, match='truncated'):
            open_image(path)
