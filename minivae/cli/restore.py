"""minivae denoise and minivae inpaint: the image behind the noise, the pixels behind the mask, by a run."""

import argparse
import io
from pathlib import Path

import numpy as np

from ..applications import Restored, denoise, estimate_noise, inpaint
from ..applications.masks import MASKS, named_mask
from ..data import Examples, to_float
from ..data.images import SUFFIXES, pixels_of, preparation
from ..errors import DataError, UsageError
from ..evaluate import psnr
from ..models import conditioned
from ..random import Stream
from ..runs import Run, write_atomically
from .look import need, write_figure
from .score import examples_of, labels_of

MASK = f"what is missing: {', '.join(MASKS)}; a share of the pixels, 80%%; an image file, white is missing; an .npy file, True is known"


def opened(options: argparse.Namespace, device: str | None) -> tuple[Run, Examples, np.ndarray, object]:
    """The run, the images, the first of them as floats, and the model of their labels if it has a condition."""
    need(options.count, 1, "--count")
    need(options.draws, 0, "--draws")
    if options.samples < 20 or options.samples % 20:
        raise UsageError(f"--samples is {options.samples}; need a multiple of 20")
    run = Run.open(options.folder, device)
    found = examples_of(run, options)
    count = min(options.count, len(found.images))
    labels = labels_of(run, found, options.images)
    return run, found, to_float(found.images[:count]), conditioned(run.model, None if labels is None else labels[:count])


def is_gray(run: Run) -> bool:
    """Whether a Bernoulli's pixels were taught as gray: without bits drawn from them."""
    return not run.trainer.config.binarize


def denoise_command(options: argparse.Namespace, device: str | None) -> None:
    run, _, x, model = opened(options, device)
    truth, y = None, x
    root = Stream(options.seed)
    if options.add_noise is not None:
        if not options.add_noise > 0:
            raise UsageError(f"--add-noise is {options.add_noise}; need a positive number")
        truth, y = x, x + np.float32(options.add_noise) * root.split("noise that is added").normal(x.shape)
    sigma = options.sigma
    if sigma is None:
        sigma = estimate_noise(y)
        print(f"noise measured: sigma = {sigma:.4f} of the range from black to white")
        ends = float(((y == 0) | (y == 1)).mean())
        if truth is None and ends > 0.1:
            print(
                f"{ends:.0%} of the pixels are exactly black or white: noise that was cut off there is stronger than it looks; give --sigma"
            )
    found = denoise(model, y, root.split("denoising"), sigma, options.samples, options.draws, starts=2, gray=is_gray(run))
    report(found, options.samples)
    if truth is not None:
        print(f"PSNR: noisy {psnr(y, truth):.2f} dB, restored {psnr(found.mean, truth):.2f} dB")
        if options.draws:
            print(f"      one draw {psnr(found.draws[0], truth):.2f} dB: sharper to look at, and farther from the image")
    write(options, run, "denoised", {"noisy": y, "restored": found.mean} | ({} if truth is None else {"image": truth}), found)


def inpaint_command(options: argparse.Namespace, device: str | None) -> None:
    run, _, x, model = opened(options, device)
    known = known_of(options, x)
    found = inpaint(model, x, known, Stream(options.seed).split("inpainting"), options.samples, options.draws, starts=10, gray=is_gray(run))
    report(found, options.samples)
    missing = ~np.broadcast_to(known, x.shape)
    if options.judge:
        error = float(((found.mean - x)[missing] ** 2).mean())
        print(f"PSNR of the missing pixels: {10 * np.log10(1 / error):.2f} dB, if what lies under the mask is the truth")
    write(options, run, "inpainted", {"known": np.where(missing, np.float32(0.5), x), "restored": found.mean}, found)


def known_of(options: argparse.Namespace, x: np.ndarray) -> np.ndarray:
    """--mask: a name, an image file whose white pixels are missing, or an .npy file that is True where pixels are known."""
    name, shape = options.mask, x.shape[1:]
    if name in MASKS or name.rstrip("%").replace(".", "", 1).isdigit():
        return named_mask(name, x.shape, Stream(options.seed).split("mask"))
    path = Path(name).expanduser()
    if path.suffix.lower() in SUFFIXES and path.is_file():
        white = pixels_of(path, preparation(None, "gray", "black"))[..., 0] >= 128
        if white.shape != shape[:2]:
            raise DataError(f"{path} is {white.shape}, the images are {shape[:2]}; give a mask of their size")
        return np.broadcast_to(~white[..., None], shape)
    if path.suffix.lower() == ".npy" and path.is_file():
        try:
            known = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} is no readable .npy file: {error}") from error
        if known.dtype == bool and known.shape == shape[:-1]:
            known = np.broadcast_to(known[..., None], shape)
        if known.dtype != bool or known.shape not in (shape, x.shape):
            raise DataError(f"{path} is {known.dtype} {known.shape}; need bool {shape}, or {x.shape}, True where a pixel is known")
        return known
    raise UsageError(
        f"--mask is {name}; choose one of {', '.join(MASKS)}, a share such as 80%, an image file (white: missing), or an .npy file"
    )


def report(found: Restored, samples: int) -> None:
    low = np.median(found.effective)
    print(f"{len(found.mean):,} images; effective samples of {samples}: {low:.1f} in the median, {found.effective.min():.1f} at least")
    if low < 5:
        print("so few tell that the model finds these images hard to explain; more --samples help")


def write(options: argparse.Namespace, run: Run, name: str, columns: dict[str, np.ndarray], found: Restored) -> None:
    from .. import plots

    target = options.out or run.folder / f"{name}.png"
    buffer = io.BytesIO()
    np.savez(buffer, mean=found.mean.astype(np.float32), draws=found.draws.astype(np.float32), effective=found.effective)
    write_atomically(target.with_suffix(".npz"), buffer.getvalue())
    print(target.with_suffix(".npz"))
    if found.mean.ndim != 4:
        return
    rows = slice(min(len(found.mean), 12))
    parts = {title: images[rows][:, None] for title, images in columns.items()}
    if len(found.draws):
        parts["draws"] = found.draws[:8, rows].transpose(1, 0, 2, 3, 4)
    write_figure(target, plots.groups({title: np.asarray(images, np.float32) for title, images in parts.items()}, "Restored images"))
