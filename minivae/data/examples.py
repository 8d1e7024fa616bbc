"""Images that a trained model is to look at: all of a file or folder, in their order, each with a name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from .arrays import plain_images
from .images import SUFFIXES, pixels_of, preparation


@dataclass(frozen=True)
class Examples:
    """Images that belong to no training.  A name is a file's path below the folder, or the number in an array or in the test part."""

    images: np.ndarray  # (N, H, W, C) uint8, or (N, ...) float32
    names: tuple[str, ...]
    labels: np.ndarray | None = None  # (N,) int64


def load_examples(name_or_path: str | Path, data_dir: str | Path | None = None, **prepare: Any) -> Examples:
    """An image file; a folder of them; an .npy file, or an .npz of one array or of `images`; else the test part of what `load` knows.

    prepare    size, mode and background of image files, as `load` takes them

    Nothing is shuffled or left out.  Raises DataError and UsageError as `load` does.
    """
    from . import load

    path = Path(name_or_path).expanduser()
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return from_files(path.parent, [Path(path.name)], prepare)
    if path.is_dir():
        found = [p.relative_to(path) for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
        found = [p for p in found if not any(part.startswith(".") for part in p.parts)]
        if found:
            return from_files(path, found, prepare)
    if path.suffix.lower() in (".npy", ".npz") and path.is_file() and (images := plain_images(path)) is not None:
        return Examples(*images)
    if path.suffix.lower() == ".csv":
        raise UsageError(f"{path} is a table, of which load would take a tenth for the test; give an .npy file of the rows")
    data = load(name_or_path, data_dir)
    return Examples(data.test_images, tuple(f"{data.name} test {i}" for i in range(len(data.test_images))), data.test_labels)


def from_files(folder: Path, paths: list[Path], prepare: dict[str, Any]) -> Examples:
    how = preparation(**prepare)
    every = [pixels_of(folder / path, how) for path in paths]
    for path, pixels in zip(paths, every, strict=True):
        if pixels.shape != every[0].shape:
            raise DataError(
                f"{folder / path} is {pixels.shape}, {folder / paths[0]} is {every[0].shape}; give all one size: --size 28, --gray"
            )
    return Examples(np.stack(every), tuple(path.as_posix() for path in paths))
