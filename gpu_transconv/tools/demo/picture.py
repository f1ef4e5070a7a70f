"""Reading a picture file as grey values, whatever its kind; needs Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError


def read_grey(path: Path, size: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Read a picture upright and in grey, scaled down where a side is longer than `size` pixels.

    Transparent pictures are laid on white; of several frames the first one counts.

    Parameters
    ----------
    path : Path
        Any file that Pillow reads.
    size : int
        Longest side of the result, in pixels.

    Returns
    -------
    grey : ndarray, shape (rows, columns)
        Float32 on the file's own scale.
    original : (int, int)
        Rows and columns in the file.

    Raises
    ------
    ValueError
        If the file is no picture, or is damaged.
    OSError
        If the file cannot be read.
    """
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # large files are what `size` is for, and metadata are not looked at
        try:
            with Image.open(file) as image:
                return _read(image, size)
        except UnidentifiedImageError:
            raise ValueError(f"{path} is not an image") from None
        except (Image.DecompressionBombError, MemoryError):
            raise ValueError(f"{path} has too many pixels; scale it down first") from None
        # Pillow's decoders raise any of these on a broken file.
        except (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError) as error:
            raise ValueError(f"{path} is a damaged image: {error}") from None


def _read(image: Image.Image, size: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
    columns, rows = image.size
    image.draft(None, (2 * size, 2 * size))  # lets a JPEG decoder skip detail
    upright = ImageOps.exif_transpose(image)
    if image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:
        columns, rows = rows, columns
    grey = _as_grey(upright)
    if max(grey.size) > size:
        share = size / max(grey.size)
        smaller = [max(1, round(side * share)) for side in grey.size]
        grey = grey.resize((smaller[0], smaller[1]), Image.Resampling.LANCZOS)
    return np.asarray(grey, np.float32), (rows, columns)


def _as_grey(image: Image.Image) -> Image.Image:
    """Mode L, or F where a pixel has more than 8 bits."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0, neginf=0))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB").convert("L")
