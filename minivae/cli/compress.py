"""minivae compress and minivae decompress."""

import argparse
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..compress import LossyCoder, coder_for, coder_of, container, lossy
from ..compress.bits_back import BLOCK
from ..data import NAMES, binarize, load, to_float
from ..data.arrays import read_arrays
from ..data.images import pillow, read_pictures
from ..errors import CheckpointError, DataError, UsageError
from ..evaluate import psnr
from ..models import Codec
from ..random import Stream
from ..runs import load as load_model
from ..runs import write_atomically

__all__ = ["BLOCK", "compress_command", "decompress_command"]


def compress_command(options: argparse.Namespace, device: str | None) -> None:
    model = model_of(options.folder, device)
    if isinstance(model, Codec):
        compress_photo(model, options)
        return
    coder, images = coder_of(model), images_of(options)
    if len(coder.shape) != 3 and images[:1].size == coder.size:  # vectors, or images without an axis of channels
        images = images.reshape(-1, *coder.shape)
    if options.binarize:
        bits = binarize(to_float(images), Stream(options.seed).split("bits of pixels"))
        images = bits.astype(np.uint8) * np.uint8(255)
    if not len(images):
        raise DataError(f"{options.images} holds no images")
    data = container.compress(coder, images, options.block)
    write_atomically(options.out, data)
    shape = "x".join(map(str, coder.shape))
    header = container.read_header(data)
    print(f"{options.out}: {len(images):,} images {shape} in {len(data):,} bytes, {8 * len(data) / images.size:.4f} bits a pixel")
    print(f"  header and table of {len(header.ends)} blocks: {header.size:,} bytes; the rest is messages, with their initial bits")
    weights = 4 * sum(p.size for p in model.parameters())
    print(f"  not counted: the model, without which nobody can read the file, {weights:,} bytes")


def decompress_command(options: argparse.Namespace, device: str | None) -> None:
    data = container.read_file(options.file)
    if data[: len(lossy.MAGIC)] == lossy.MAGIC:
        decompress_photo(data, options, device)
        return
    header = container.read_header(data, str(options.file))
    model = model_of(options.folder, device)
    coder = coder_for(model, header)
    write_images(options.out, container.decompress(coder, data, str(options.file)), header.images, coder.shape)


def model_of(folder: Path, device: str | None) -> Any:
    """The run's model, on a CPU unless a GPU is asked for: the file is the same."""
    return load_model(folder).to(device or "cpu")


def compress_photo(model: Any, options: argparse.Namespace) -> None:
    """One picture, of any size, and not to the byte."""
    if options.binarize:
        raise UsageError(f"{options.folder} holds a lossy codec, which codes photos as they are; leave out --binarize")
    pictures = images_of(options)
    if pictures.ndim != 4 or len(pictures) != 1:
        raise UsageError(f"{options.images} is {pictures.shape}, and a lossy codec codes one picture a file; name one image file")
    coder = LossyCoder(model)
    data = coder.compress(pictures[0])
    write_atomically(options.out, data)
    height, width, _ = pictures[0].shape
    near = psnr(coder.decompress(data), pictures[0], 255)
    print(f"{options.out}: {height}x{width} in {len(data):,} bytes, {8 * len(data) / height / width:.4f} bits a pixel, PSNR {near:.2f} dB")
    print(f"  not counted: the model, without which nobody can read the file, {4 * sum(p.size for p in model.parameters()):,} bytes")


def decompress_photo(data: bytes, options: argparse.Namespace, device: str | None) -> None:
    model = model_of(options.folder, device)
    if not isinstance(model, Codec):
        raise DataError(f"{options.file} was made by a lossy codec, and {options.folder} holds a {type(model).__name__}; name its run")
    picture = LossyCoder(model).decompress(data, str(options.file))
    write_images(options.out, [picture[None]], 1, picture.shape)


def write_images(out: Path, parts: Iterable[np.ndarray], count: int, shape: tuple[int, ...]) -> None:
    """One .npy file, or a folder of PNG files.     parts (n, *shape) each, count in all"""
    if out.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate(list(parts) or [np.zeros((0, *shape), np.uint8)]))
        write_atomically(out, buffer.getvalue())
        print(out)
        return
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise UsageError(f"the images are {'x'.join(map(str, shape))}, which no PNG file holds; name an .npy file with --out")
    done = write_pictures(out, parts, count)
    print(f"{out}: {done:,} image{'' if done == 1 else 's'}")


def write_pictures(folder: Path, parts: Any, count: int) -> int:
    """PNG files, numbered; those of blocks before one that was altered are there.  Returns how many."""
    image, digits, done = pillow("PNG files").Image, max(5, len(str(count - 1))), 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"the folder {folder} cannot be made ({error.strerror}); choose another with --out") from error
    for images in parts:
        for pixels in images:
            buffer = io.BytesIO()
            image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "png")
            try:
                (folder / f"{done:0{digits}d}.png").write_bytes(buffer.getvalue())
            except OSError as error:
                raise CheckpointError(f"{folder} cannot be written to ({error.strerror}); choose another folder with --out") from error
            done += 1
    return done


def images_of(options: argparse.Namespace) -> np.ndarray:
    """Bytes.     -> (N, ...) uint8"""
    if options.images in NAMES:
        images = load(options.images, options.data_dir).test_images
    elif Path(options.images).suffix.lower() == ".npy":
        images = read_arrays(Path(options.images))["images"]
        images = images[..., None] if images.ndim == 3 else images
    elif Path(options.images).exists():
        images = read_pictures(Path(options.images))
    else:
        raise UsageError(f"there is no {options.images}; name a folder of image files, one, an .npy file, or one of {', '.join(NAMES)}")
    if images.dtype != np.uint8:
        raise DataError(f"{options.images} holds {images.dtype} {images.shape}; need bytes, uint8, to come back as they are")
    return images
