"""Data sets: `load("mnist")` gives a Dataset of bytes, `batches(data.train_images, 128, rng)` the float32 batches of one epoch."""

import difflib
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from .arrays import load_array
from .binaries import idx_pairs, load_cifar, load_idx
from .dataset import Batch, Dataset, batch_indices, batches, binarize, to_float
from .download import cache_folder
from .examples import Examples, load_examples
from .faces import Faces
from .few import UNKNOWN, balanced, partly_labelled
from .images import load_folder, preparation
from .sources import SOURCES, Ask, faces_chosen, sprites_chosen
from .sprites import Sprites
from .tables import load_csv

__all__ = [
    "NAMES",
    "UNKNOWN",
    "Batch",
    "Dataset",
    "Examples",
    "Faces",
    "Sprites",
    "balanced",
    "batch_indices",
    "batches",
    "binarize",
    "cache_folder",
    "faces_chosen",
    "load",
    "load_examples",
    "partly_labelled",
    "sprites_chosen",
    "to_float",
]

NAMES = tuple(SOURCES)


def load(
    name_or_path: str | Path,
    data_dir: str | Path | None = None,
    download: bool = True,
    progress: bool = True,
    size: Any = None,
    mode: str | None = None,
    background: str | None = None,
    standardize: bool = False,
    label: str | None = None,
) -> Dataset:
    """A data set by name (one of NAMES), or the user's own: a folder of image files, a class a sub-folder; an .npy or .npz file of
    images or vectors; a CSV file with a header; IDX files, CIFAR-10's batches, one or a folder of them.

    size, mode, background    what is done to image files: see images.Preparation
    standardize               vectors less the mean of the training part, over its standard deviation
    label                     the column that is the class: of a CSV file, or of a table of attributes beside image files

    Named ones are looked for in `data_dir`, else in the folder `MINIVAE_DATA`; then in the cache, then on the network if
    `download`.  A `data_dir` that lacks the files is an error, except for `"auto"`: MNIST from anywhere, else digits5k.
    `Dataset.note` is a line for the user.  Raises DataError when the data is missing, altered or unreadable, UsageError for an
    unknown name or a missing package.  A folder called like a data set is `./mnist`.
    """
    asked = {"size": size, "mode": mode, "background": background, "standardize": standardize or None, "label": label}

    def only(kind: str, *allowed: str) -> None:
        odd = [name for name, value in asked.items() if value is not None and name not in allowed]
        if odd:
            raise UsageError(f"{odd[0]} is {asked[odd[0]]!r}, and {name_or_path} is {kind}, which has no use for it; leave it out")

    if isinstance(name_or_path, str) and name_or_path in SOURCES:
        only("a named data set")
        folder = None if data_dir is None else Path(data_dir).expanduser()
        if folder is not None and not folder.is_dir():
            raise DataError(f"there is no folder {folder} to look for {name_or_path} in; name one that exists")
        return SOURCES[name_or_path](Ask(folder, download, progress))
    path = Path(name_or_path).expanduser()
    suffix = path.suffix.lower()
    if path.is_dir() and any(path.glob("data_batch_*.bin")):
        only("a folder of CIFAR-10's batches")
        return load_cifar(path)
    if path.is_dir() and idx_pairs(path):
        only("a folder of IDX files")
        return load_idx(path)
    if path.is_dir():
        only("a folder of images", "size", "mode", "background", "label")
        return load_folder(path, progress, preparation(size, mode, background), label)
    if suffix in (".npy", ".npz"):
        only("a NumPy file", "standardize")
        return load_array(path, standardize)
    if suffix == ".csv" and path.is_file():
        only("a table", "standardize", "label")
        return load_csv(path, standardize, label)
    if path.is_file() and (suffix == ".bin" or "ubyte" in path.name):
        only("a binary file")
        return load_cifar(path) if suffix == ".bin" else load_idx(path)
    close = difflib.get_close_matches(str(name_or_path).lower(), NAMES, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(
        f"data set {str(name_or_path)!r} is unknown; choose one of {', '.join(NAMES)}, or give the path of a folder of image files, "
        f"of an .npy, .npz or .csv file, or of IDX or CIFAR-10 files{hint}"
    )
