"""Plain JPEGs → RGB pixels, straight into an array.

Pillow decodes a JPEG with the same library, libjpeg-turbo, but in pieces and into four bytes a pixel, and what comes
out is copied three times more on its way into an array. Here is only what needs no judgement: whatever is unusual is
left to the caller, who has Pillow and knows the reasons.
"""

from __future__ import annotations

import numpy as np
import simplejpeg

__all__ = ["plain_pixels"]

_COLOUR_SPACES = ("YCbCr", "RGB", "Gray")  # simplejpeg's own formula for CMYK is not Pillow's


def plain_pixels(data: bytes, *, stored: tuple[int, int], wanted: tuple[int, int]) -> np.ndarray | None:
    """Decode a JPEG whole, or reduced by its DCT.

    Bit for bit what Pillow gives, full or drafted, with the libjpeg-turbo of both their wheels. Nothing is allocated
    before the decoder's own reading of the header has confirmed ``stored``. May be called from many threads, which do
    not wait for each other.

    Args:
        data: the file.
        stored: its width and height in pixels, as its header was read before.
        wanted: width and height of the result: those of the file divided by 1, 2, 4 or 8, rounded up. Where they are
            divided, each is at least 2.

    Returns:
        (height, width, 3) uint8, as stored: orientation and ICC profile are not applied; C-contiguous, writable. None
        where it is CMYK, of another size, or the decoder had anything to complain of: cut, damaged or merely odd.
    """
    width, height = wanted
    try:
        stored_height, stored_width, space, _ = simplejpeg.decode_jpeg_header(data)
        if (stored_width, stored_height) != stored or space not in _COLOUR_SPACES:
            return None
        # The smallest scale that is large enough is taken; those between halves and eighths give other sizes.
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width, strict=True)
    except Exception:  # ValueError for warnings too, KeyError for a subsampling without a name, ...
        return None
    return pixels if pixels.shape == (height, width, 3) else None
