"""Data sets of the user's own: a folder of PNG and JPEG files, or one NumPy file."""

import zipfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import DataError, UsageError
from ..random import Stream
from .dataset import Dataset, train_test_split

SUFFIXES = (".png", ".jpg", ".jpeg")
GRAY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # Pillow's modes of 8 bits a channel


def load_folder(folder: Path, progress: bool = True) -> Dataset:
    """All PNG and JPEG files below a folder, in the order of their paths, a tenth of them kept for the test by a fixed shuffle.

    Grayscale files make C = 1, colour files C = 3; a folder holds one size and one of the two kinds.  Nothing is resized.
    When every image lies in a sub-folder, the first sub-folders' names, sorted, are the labels 0, 1, ...
    """
    paths = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
    paths = [p for p in paths if not any(part.startswith(".") for part in p.parts)]  # thumbnails and the like
    if not paths:
        raise DataError(f"{folder} holds no .png, .jpg or .jpeg file, nor do its sub-folders")
    first = _pixels(folder / paths[0])
    images = np.empty((len(paths), *first.shape), np.uint8)
    for i, path in enumerate(tqdm(paths, desc=folder.name, unit="image", disable=None if progress else True)):
        pixels = _pixels(folder / path) if i else first
        if pixels.shape != first.shape:
            raise DataError(
                f"{folder}: {paths[0]} is {_describe(first)} and {path} is {_describe(pixels)}; "
                "give all images one size and one mode first, or keep each kind in a folder of its own"
            )
        images[i] = pixels
    names = tuple(sorted({p.parts[0] for p in paths if len(p.parts) > 1}))
    loose = sum(len(p.parts) == 1 for p in paths)
    labels = None if loose else np.array([names.index(p.parts[0]) for p in paths], np.int64)
    note = f"no labels, because {loose} of the {len(paths)} images in {folder} lie in no sub-folder" if names and loose else ""
    split = train_test_split(images, labels, Stream(0).split("images"))
    return Dataset(folder.resolve().name, *split, () if loose else names, note)


def _pixels(path: Path) -> np.ndarray:
    """One image file.   -> (H, W, 1) or (H, W, 3) uint8"""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise UsageError(f'{path}: image files are read with Pillow, which is not installed; pip install "minivae[demos]"') from error
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)  # upright, as every viewer shows it
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no readable image: {error}") from error
    if image.mode not in GRAY + COLOUR:
        raise DataError(f"{path} has Pillow mode {image.mode}; save it with 8 bits a channel, gray or RGB")
    see_through = "A" in image.mode or "transparency" in image.info
    if see_through and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise DataError(f"{path} has transparent pixels; flatten it onto a background first")
    if image.mode in GRAY:
        return np.asarray(image.convert("L"))[..., None]
    return np.asarray(image.convert("RGB"))


def _describe(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} {'gray' if pixels.shape[2] == 1 else 'colour'}"


def load_array(path: Path) -> Dataset:
    """A .npy or .npz file of images, (N, H, W) or (N, H, W, C), as uint8, as bool, or as floats in [0, 1].

    Floats are stored as the nearest byte, round(255 x): what a model sees differs from x by up to 1/510.  Files are never
    unpickled.  An .npz holds `train_images` and `test_images`, with `train_labels` and `test_labels` if there are labels; or
    `images`, with `labels` if there are; or one array.  Without a split of its own, a tenth goes to the test by a fixed shuffle.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = {"images": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no readable .npy or .npz file of numbers: {error}") from error
    if len(arrays) == 1:
        arrays = {"images": next(iter(arrays.values()))}
    if {"train_images", "test_images"} <= arrays.keys():
        train = _pair(arrays, "train_", path)
        return Dataset(path.name, *train, *_pair(arrays, "test_", path))
    if "images" in arrays:
        return Dataset(path.name, *train_test_split(*_pair(arrays, "", path), Stream(0).split("images")))
    keys = ", ".join(arrays) or "nothing"
    raise DataError(f"{path} holds {keys}; need train_images and test_images, or images, or a single array")


def _pair(arrays: dict[str, np.ndarray], part: str, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The images and the labels, if there are any, of one part: all, train_ or test_."""
    images = _images(arrays[f"{part}images"], f"{path}: {part}images")
    given = arrays.get(f"{part}labels")
    if given is None:
        return images, None
    if given.shape != (len(images),) or given.dtype.kind not in "iu":
        raise DataError(f"{path}: {part}labels are {given.dtype} of shape {given.shape}; need integers of shape ({len(images)},)")
    return images, given.astype(np.int64)


def _images(array: np.ndarray, name: str) -> np.ndarray:
    """-> (N, H, W, C) uint8"""
    if array.ndim not in (3, 4) or array.size == 0:
        raise DataError(f"{name} has shape {array.shape}; need (N, H, W) or (N, H, W, C), none of them 0")
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] > 4:
        raise DataError(f"{name} has shape {array.shape}, which looks like (N, C, H, W); need (N, H, W, C): x.transpose(0, 2, 3, 1)")
    array = array if array.ndim == 4 else array[..., None]
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind != "f":
        raise DataError(f"{name} has dtype {array.dtype}; need uint8, bool, or floats in [0, 1]")
    low, high = float(array.min()), float(array.max())  # NaN if there is one
    if not (low >= 0 and high <= 1):
        raise DataError(f"{name} has values from {low:g} to {high:g}; floats must lie in [0, 1], bytes be stored as uint8")
    images = np.empty(array.shape, np.uint8)
    for i, image in enumerate(array):  # one by one: a float64 copy of all would take eight times the memory
        images[i] = np.rint(np.multiply(image, 255, dtype=np.float64))
    return images
