"""Binary files of public data sets, by what they hold and not by whose they are: CIFAR-10's batches, IDX files of any name."""

import re
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..random import Stream
from . import idx
from .dataset import Dataset, train_test_split

CIFAR_RECORD = 1 + 3 * 32 * 32  # a label, then the planes of red, green and blue
CIFAR_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGES = re.compile(r"(.*)images([-.]idx3-ubyte)(\.gz)?")


def cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one batch.     -> (N, 32, 32, 3) uint8, (N,) int64"""
    content = np.frombuffer(idx.unpacked(path), np.uint8)
    if not content.size or content.size % CIFAR_RECORD:
        raise DataError(f"{path} has {content.size} bytes; a batch of CIFAR-10 is records of {CIFAR_RECORD}, a label and 32x32x3 pixels")
    records = content.reshape(-1, CIFAR_RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise DataError(f"{path} has a label {labels.max()}; a batch of CIFAR-10 has labels from 0 to 9")
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def load_cifar(path: Path) -> Dataset:
    """A folder of data_batch_*.bin and test_batch.bin, or one of these files, a tenth of which is then the test."""
    if path.is_file():
        return Dataset(path.name, *train_test_split(*cifar(path), Stream(0).split("images")), CIFAR_NAMES)
    files = sorted(path.glob("data_batch_*.bin"))
    if not files or not (path / "test_batch.bin").is_file():
        raise DataError(f"{path} has {len(files)} data_batch_*.bin, and needs these and test_batch.bin")
    images, labels = (np.concatenate(parts) for parts in zip(*map(cifar, files), strict=True))
    return Dataset(path.resolve().name, images, labels, *cifar(path / "test_batch.bin"), CIFAR_NAMES)


def idx_pairs(folder: Path) -> list[tuple[Path, Path | None]]:
    """(images, labels) of the IDX files in a folder; labels None where there are none."""
    pairs: list[tuple[Path, Path | None]] = []
    for file in sorted(folder.iterdir()):
        if match := IMAGES.fullmatch(file.name):
            names = [f"{match[1]}labels{match[2].replace('3', '1')}{ending}" for ending in ("", ".gz")]
            pairs.append((file, next((folder / name for name in names if (folder / name).is_file()), None)))
    return pairs


def load_idx(path: Path) -> Dataset:
    """A folder of IDX files, of which one pair is called train and another test or t10k; or one file of images, its labels beside it."""
    pairs = idx_pairs(path if path.is_dir() else path.parent)
    if path.is_file():
        pairs = [pair for pair in pairs if pair[0] == path] or [(path, None)]
    train, test = ([p for p in pairs if any(word in p[0].name for word in words)] for words in (("train",), ("test", "t10k")))
    if path.is_dir() and len(train) == len(test) == 1:
        return Dataset(path.resolve().name, *_pair(*train[0]), *_pair(*test[0]))
    if len(pairs) != 1:
        names = ", ".join(p[0].name for p in pairs) or "none"
        raise DataError(f"{path} has these IDX files of images: {names}; name one of them, or keep one train and one test pair in a folder")
    return Dataset(path.name, *train_test_split(*_pair(*pairs[0]), Stream(0).split("images")))


def _pair(images: Path, labels: Path | None) -> tuple[np.ndarray, np.ndarray | None]:
    x = idx.read(images)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or not x.size:
        raise DataError(f"{images} holds {x.dtype} {x.shape}; need uint8 images, (N, H, W) or (N, H, W, C)")
    x = np.ascontiguousarray(x if x.ndim == 4 else x[..., None])
    if labels is None:
        return x, None
    y = idx.read(labels)
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise DataError(f"{labels} holds {y.dtype} {y.shape}, and {images.name} {len(x)} images; need as many integers")
    return x, y.astype(np.int64)
