"""Feature files from raw text, images, or anything that a callable reads."""

from pyg_sea.encode.encode import encode
from pyg_sea.encode.image import encode_images
from pyg_sea.encode.open_image import open_image
from pyg_sea.encode.result import Encoded
from pyg_sea.encode.text import encode_text

__all__ = classes = [
    'Encoded',
    'encode',
    'encode_images',
    'encode_text',
    'open_image',
]
