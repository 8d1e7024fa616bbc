"""NumPy files of the user's own."""

import zipfile
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..random import Stream
from .dataset import Dataset, train_test_split
from .tables import finished, vectors


def load_array(path: Path, standardize: bool = False) -> Dataset:
    """A .npy or .npz file of images, (N, H, W) or (N, H, W, C), as uint8, as bool, or as floats in [0, 1]; or of vectors, (N, D).

    Floats are stored as the nearest byte, round(255 x): what a model sees differs from x by up to 1/510.  Files are never
    unpickled.  An .npz holds `train_images` and `test_images`, with `train_labels` and `test_labels` if there are labels (or x_train,
    y_train, x_test, y_test, as Keras has them); or
    `images`, with `labels` if there are; or one array.  Without a split of its own, a tenth goes to the test by a fixed shuffle.
    """
    arrays = read_arrays(path)
    if {"x_train", "x_test"} <= arrays.keys():
        keras = {"x_train": "train_images", "y_train": "train_labels", "x_test": "test_images", "y_test": "test_labels"}
        arrays = {new: arrays[old] for old, new in keras.items() if old in arrays}
    if len(arrays) == 1:
        arrays = {"images": next(iter(arrays.values()))}
    if {"train_images", "test_images"} <= arrays.keys():
        train = _pair(arrays, "train_", path)
        return finished(path.name, *train, *_pair(arrays, "test_", path), standardize=standardize)
    if "images" in arrays:
        return finished(path.name, *train_test_split(*_pair(arrays, "", path), Stream(0).split("images")), standardize=standardize)
    keys = ", ".join(arrays) or "nothing"
    raise DataError(f"{path} holds {keys}; need train_images and test_images, or x_train and x_test, or images, or a single array")


def plain_images(path: Path) -> tuple[np.ndarray, tuple[str, ...], np.ndarray | None] | None:
    """(images, their numbers, labels) of a file without a split of its own, in their order; None of one that has a split."""
    arrays = read_arrays(path)
    if len(arrays) == 1:
        arrays = {"images": next(iter(arrays.values()))}
    if "images" not in arrays:
        return None
    images, labels = _pair(arrays, "", path)
    return images, tuple(f"{path.name} {i}" for i in range(len(images))), labels


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """{name: array}; the one of an .npy file is "images"."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = {"images": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no readable .npy or .npz file of numbers: {error}") from error
    return arrays


def _pair(arrays: dict[str, np.ndarray], part: str, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The images and the labels, if there are any, of one part: all, train_ or test_."""
    images = _images(arrays[f"{part}images"], f"{path}: {part}images")
    given = arrays.get(f"{part}labels")
    if given is None:
        return images, None
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]  # as CIFAR-10 has them
    if given.shape != (len(images),) or given.dtype.kind not in "iu":
        raise DataError(f"{path}: {part}labels are {given.dtype} of shape {given.shape}; need integers of shape ({len(images)},)")
    return images, given.astype(np.int64)


def _images(array: np.ndarray, name: str) -> np.ndarray:
    """-> (N, H, W, C) uint8, or (N, D) float32"""
    if array.ndim == 2 and array.size:
        return vectors(array, name)
    if array.ndim not in (3, 4) or array.size == 0:
        raise DataError(f"{name} has shape {array.shape}; need (N, H, W) or (N, H, W, C), or vectors (N, D), none of them 0")
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
