"""Data sets: `load("mnist")` gives a Dataset of bytes, `batches(data.train_images, 128, rng)` the float32 batches of one epoch."""

import difflib
from pathlib import Path

from ..errors import DataError, UsageError
from .dataset import Batch, Dataset, batch_indices, batches, binarize, to_float
from .download import cache_folder
from .images import load_array, load_folder
from .sources import SOURCES, Ask
from .sprites import Sprites

__all__ = ["NAMES", "Batch", "Dataset", "Sprites", "batch_indices", "batches", "binarize", "cache_folder", "load", "to_float"]

NAMES = tuple(SOURCES)


def load(name_or_path: str | Path, data_dir: str | Path | None = None, download: bool = True, progress: bool = True) -> Dataset:
    """A data set by name (one of NAMES), or the user's own from a folder of PNG and JPEG files, an .npy or an .npz file.

    Named ones are looked for in `data_dir`, else in the folder `MINIVAE_DATA`; then in the cache, then on the network if
    `download`.  A `data_dir` that lacks the files is an error, except for `"auto"`: MNIST from anywhere, else digits5k.
    `Dataset.note` is a line for the user.  Raises DataError when the data is missing, altered or unreadable, UsageError for an
    unknown name or a missing package.  A folder called like a data set is `./mnist`.
    """
    if isinstance(name_or_path, str) and name_or_path in SOURCES:
        folder = None if data_dir is None else Path(data_dir).expanduser()
        if folder is not None and not folder.is_dir():
            raise DataError(f"there is no folder {folder} to look for {name_or_path} in; name one that exists")
        return SOURCES[name_or_path](Ask(folder, download, progress))
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return load_folder(path, progress)
    if path.suffix.lower() in (".npy", ".npz"):
        return load_array(path)
    close = difflib.get_close_matches(str(name_or_path).lower(), NAMES, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(
        f"data set {str(name_or_path)!r} is unknown; choose one of {', '.join(NAMES)}, "
        f"or give the path of a folder of PNG or JPEG files, of an .npy or of an .npz file{hint}"
    )
