import struct
from pathlib import Path
from typing import TYPE_CHECKING

from pyg_sea.encode._hub import import_optional

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATION = 0x0112  # Of EXIF, and what undoes it.
_TURNS = {
    2: 'FLIP_LEFT_RIGHT',
    3: 'ROTATE_180',
    4: 'FLIP_TOP_BOTTOM',
    5: 'TRANSPOSE',
    6: 'ROTATE_270',
    7: 'TRANSVERSE',
    8: 'ROTATE_90',
}


def open_image(path: str | Path) -> 'Image':
    r"""Reads an image file as 8-bit RGB, the way it is meant to be seen.

    The EXIF orientation is applied. Transparency is laid on white, as shops
    show their cut-outs. Of 16-bit greys the upper 8 bits are kept, CMYK and
    palettes become RGB. Of an animation it is the first frame.

    Args:
        path: The file, of any format that Pillow reads.

    Raises a `ValueError` for more pixels than `PIL.Image.MAX_IMAGE_PIXELS`,
    and what Pillow raises for files that are no image or cut short. Needs the
    extra `encode`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from pyg_sea.encode import open_image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     path = Path(root, 'cut_out.png')
        ...     Image.new('RGBA', (4, 3), (255, 0, 0, 0)).save(path)
        ...     image = open_image(path)
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (4, 3), (255, 255, 255))
    """
    pil = import_optional('PIL.Image')
    with pil.open(path) as image:
        width, height = image.size
        limit = pil.MAX_IMAGE_PIXELS
        if limit is not None and width * height > limit:
            raise ValueError(
                f'{width} x {height} pixels are more than the '
                f'{limit:,} of PIL.Image.MAX_IMAGE_PIXELS'
            )
        image.load()
        return _to_rgb(_upright(image))


def _upright(image: 'Image') -> 'Image':
    # `ImageOps.exif_transpose` also writes all other entries anew, and gives
    # up on images where one of them is damaged.
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, struct.error):
        # Damaged EXIF data say nothing about the image.
        return image
    if turn is None:
        return image
    return image.transpose(import_optional('PIL.Image').Transpose[turn])


def _to_rgb(image: 'Image') -> 'Image':
    pil = import_optional('PIL.Image')
    if image.mode.startswith('I'):
        # `convert` would clip all that is brighter than 255.
        image = image.convert('I').point(lambda value: value * (1 / 256))
        return image.convert('L').convert('RGB')
    if not image.has_transparency_data:
        return image.convert('RGB')
    image = image.convert('RGBA')
    white = pil.new('RGBA', image.size, 'white')
    return pil.alpha_composite(white, image).convert('RGB')
