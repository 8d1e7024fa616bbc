"""Folders of image files: of one size, or of any, brought to one."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import DataError, UsageError
from ..random import Stream
from .dataset import Dataset, train_test_split
from .download import cache_folder
from .tables import attributes_beside, numbers_beside

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
GRAY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")  # Pillow's modes of 8 bits a channel
DEEP = ("I;16", "I;16B", "I;16L", "I", "F")  # 16 bits a channel, as Pillow opens them
LARGE = 2**30  # bytes: images of more are read into a file in the cache, and from there as they are needed


@dataclass(frozen=True)
class Preparation:
    """What is done to each image.

    size          (H, W): the shorter side is brought to it, with a filter that looks at all pixels, and the centre is cut out
    mode          "gray" or "rgb"; by default as the files are
    background    a colour that transparent pixels are laid on
    """

    size: tuple[int, int] | None = None
    mode: str | None = None
    background: str | None = None

    def said(self) -> str:
        """In one line."""
        parts = []
        if self.size is not None:
            parts.append(f"resized on the shorter side and cut to {self.size[1]}x{self.size[0]} in the centre (Lanczos)")
        if self.mode is not None:
            parts.append(f"made {self.mode}")
        if self.background is not None:
            parts.append(f"transparent pixels laid on {self.background}")
        return ", ".join(parts)


def preparation(size: Any = None, mode: str | None = None, background: str | None = None) -> Preparation:
    """The Preparation of these options.  Raises UsageError."""
    if mode not in (None, "gray", "rgb"):
        raise UsageError(f"mode is {mode!r}; need gray or rgb")
    if size is not None:
        size = (int(size), int(size)) if np.ndim(size) == 0 else tuple(int(n) for n in size)
        if len(size) != 2 or min(size) < 1:
            raise UsageError(f"size is {size}; need a number of pixels, or (height, width)")
    if background is not None:
        image = pillow("a background").ImageColor
        try:
            image.getrgb(background)
        except ValueError as error:
            raise UsageError(f"background {background!r} is no colour; name one, such as white, or give #rrggbb") from error
    return Preparation(size, mode, background)


def load_folder(folder: Path, progress: bool = True, prepare: Preparation | None = None, label: str | None = None) -> Dataset:
    """All image files below a folder, in the order of their paths, a tenth of them kept for the test by a fixed shuffle.

    Grayscale files make C = 1, colour files C = 3.  A folder holds one of the two kinds, unless `prepare` says which, and one size, unless
    it says what to bring them to.  When every image lies in a sub-folder, the first sub-folders' names, sorted, are the labels 0, 1, ...;
    or `label` names a column of a table of attributes that lies beside the images.
    """
    prepare = prepare or Preparation()
    paths = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
    paths = [p for p in paths if not any(part.startswith(".") for part in p.parts)]  # thumbnails and the like
    if not paths:
        raise DataError(f"{folder} holds no {', '.join(SUFFIXES)} file, nor do its sub-folders")
    images = _read(folder, paths, prepare, progress)
    done = prepare.said()
    notes = [f"{len(paths):,} images of {folder} {done}"] if done else []
    if label is not None:
        labels: np.ndarray | None
        labels, names = attributes_beside(folder, paths, label)
    else:
        names = tuple(sorted({p.parts[0] for p in paths if len(p.parts) > 1}))
        loose = sum(len(p.parts) == 1 for p in paths)
        labels = None if loose or len(names) < 2 else np.array([names.index(p.parts[0]) for p in paths], np.int64)
        if names and loose:
            notes.append(f"no labels, because {loose} of the {len(paths)} images in {folder} lie in no sub-folder")
        names = () if labels is None else names
    kept = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(prepare).items() if value is not None}
    split = _split(images, labels)
    numbers, note = numbers_beside(folder, paths)
    if note:
        notes.append(note)
    test = _places(len(paths), labels, isinstance(images, np.memmap))[1]
    attributes = {name: values[test] for name, values in numbers.items()}
    return Dataset(folder.resolve().name, *split, names, "; ".join(notes), preparation=kept, test_attributes=attributes)


def read_pictures(path: Path) -> np.ndarray:
    """A file, or all image files below a folder in the order of their paths, as they are.     -> (N, H, W, C) uint8"""
    files = [path] if path.is_file() else [p for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not files:
        raise DataError(f"{path} holds no {', '.join(SUFFIXES)} file, nor do its sub-folders")
    images: list[np.ndarray] = []
    for file in files:
        with suppress(OSError), pillow(file).Image.open(file) as opened:  # what cannot be read is said below
            if opened.mode in DEEP:
                raise DataError(f"{file} has more than 8 bits a channel, which would be lost; convert it first")
        images.append(pixels_of(file, Preparation()))
        if images[-1].shape != images[0].shape:
            raise DataError(f"{file} is {images[-1].shape} and {files[0]} {images[0].shape}; need images of one size and kind")
    return np.stack(images)


def _split(images: np.ndarray, labels: np.ndarray | None) -> tuple[Any, Any, Any, Any]:
    """As train_test_split; of a memory-mapped array the parts are two ranges of it, since its images were shuffled when it was written."""
    if not isinstance(images, np.memmap):
        return train_test_split(images, labels, Stream(0).split("images"))
    places = _places(len(images), labels, True)
    train_labels, test_labels = (None if labels is None else labels[at] for at in places)
    return images[len(places[1]) :], train_labels, images[: len(places[1])], test_labels


def _places(n: int, labels: np.ndarray | None, mapped: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which of n images, in the order of their paths, are to train and to test."""
    if mapped:
        order = Stream(0).split("images").permutation(n)
        return order[max(n // 10, 1) :], order[: max(n // 10, 1)]
    train, _, test, _ = train_test_split(np.arange(n), labels, Stream(0).split("images"))
    return train, test


def _read(folder: Path, paths: list[Path], prepare: Preparation, progress: bool) -> np.ndarray:
    """All images, in memory; or, where they are too large for that, shuffled in a file of the cache, which is made once."""
    first = pixels_of(folder / paths[0], prepare)
    shape = (len(paths), *first.shape)
    if np.prod(shape) <= LARGE:
        images = np.empty(shape, np.uint8)
        _fill(images, folder, paths, range(len(paths)), first, prepare, progress)
        return images
    stats = [(str(p), (folder / p).stat().st_size, (folder / p).stat().st_mtime_ns) for p in paths]
    key = hashlib.sha256(json.dumps([str(folder.resolve()), stats, asdict(prepare)]).encode()).hexdigest()[:24]
    file = cache_folder() / "images" / f"{key}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{key}-{os.getpid()}-{secrets.token_hex(4)}.partial")
        try:
            images = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
            _fill(images, folder, paths, Stream(0).split("images").permutation(len(paths)), first, prepare, progress)
            images.flush()
            os.replace(partial, file)
        finally:
            with suppress(OSError):
                partial.unlink()
    try:
        images = np.load(file, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{file}, the cache of {folder}, is damaged ({error}); remove it, and it is made again") from error
    if images.shape != shape:
        raise DataError(f"{file}, the cache of {folder}, holds {images.shape} and not {shape}; remove it, and it is made again")
    return images


def _fill(
    images: np.ndarray, folder: Path, paths: list[Path], order: Iterable[int], first: np.ndarray, prepare: Preparation, progress: bool
) -> None:
    """images[i] = image number order[i]"""
    for i, at in enumerate(tqdm(order, desc=folder.name, unit="image", disable=None if progress else True)):
        pixels = pixels_of(folder / paths[at], prepare) if at else first
        if pixels.shape != first.shape:
            raise DataError(
                f"{folder}: {paths[0]} is {_describe(first)} and {paths[at]} is {_describe(pixels)}; give all one size and one mode: "
                "--size 64 resizes and crops, --gray or --rgb chooses the mode"
            )
        images[i] = pixels


def pillow(what: Any) -> Any:
    """Pillow's modules."""
    try:
        import PIL.Image
        import PIL.ImageColor
        import PIL.ImageOps
    except ImportError as error:
        raise UsageError(f'{what}: image files are read with Pillow, which is not installed; pip install "minivae[demos]"') from error
    return PIL


def pixels_of(path: Path, prepare: Preparation) -> np.ndarray:
    """One image file.   -> (H, W, 1) or (H, W, 3) uint8"""
    PIL = pillow(path)
    Image = PIL.Image
    try:
        with Image.open(path) as file:
            image = PIL.ImageOps.exif_transpose(file)  # upright, as every viewer shows it; of a GIF its first frame
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no readable image: {error}") from error
    if image.mode in DEEP:
        image = Image.fromarray(_eight_bits(np.asarray(image), path))
    if image.mode not in GRAY + COLOUR:
        raise DataError(f"{path} has Pillow mode {image.mode}; save it with 8 or 16 bits a channel, gray or RGB")
    gray = image.mode in GRAY
    if ("A" in image.mode or "transparency" in image.info) and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        if prepare.background is None:
            raise DataError(f"{path} has transparent pixels; say what they lie on: --background white")
        below = Image.new("RGBA", image.size, prepare.background)
        image = Image.alpha_composite(below, image.convert("RGBA"))
        gray = gray and len(set(PIL.ImageColor.getrgb(prepare.background)[:3])) == 1
    image = image.convert("L" if (gray if prepare.mode is None else prepare.mode == "gray") else "RGB")
    if prepare.size is not None:
        height, width = prepare.size
        image = PIL.ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _eight_bits(deep: np.ndarray, path: Path) -> np.ndarray:
    """16 bits a pixel as 8: 65535 is white, so that round(v / 257)."""
    if deep.dtype.kind == "f" or deep.min() < 0 or deep.max() > 65535:
        raise DataError(f"{path} has values from {deep.min():g} to {deep.max():g}; need 8 or 16 bits a pixel")
    return np.rint(deep / 257).astype(np.uint8)


def _describe(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} {'gray' if pixels.shape[2] == 1 else 'colour'}"
