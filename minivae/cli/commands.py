"""What each command does."""

import argparse
import io
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..backend import gpu
from ..data import NAMES, Dataset, cache_folder, load, to_float
from ..engine import no_graph
from ..errors import MinivaeError, UsageError
from ..evaluate import active_units, log_likelihood
from ..kernels.cpu.jit import cache_folder as kernel_folder
from ..random import Stream
from ..training import Run, TrainingConfig, losses
from ..training.checkpoint import write_atomically
from ..version import VERSION


def train_command(options: argparse.Namespace, device: str | None) -> None:
    training = TrainingConfig(**{name: getattr(options, name) for name in TrainingConfig.__dataclass_fields__})
    data = load(options.dataset, options.data_dir)
    model = {name: getattr(options, name) for name in ("arch", "hidden", "channels", "latent", "activation", "likelihood", "head")}
    known = data.name in NAMES
    source = {"name_or_path": data.name if known else str(Path(options.dataset).absolute())}
    if options.data_dir is not None:
        source["data_dir"] = str(Path(options.data_dir).absolute())
    folder = options.out or Path("runs") / f"{Path(data.name).stem}-{options.arch}-z{options.latent}"
    run = Run.start(folder, data, model, training, source, device or "cpu")
    train(run, data, options)


def resume_command(options: argparse.Namespace, device: str | None) -> None:
    run = Run.open(options.folder, device, options.epochs)
    if run.epochs_done >= run.trainer.config.epochs:
        raise UsageError(f"{run.folder} has done all of its {run.epochs_done} epochs; give a larger total with --epochs")
    train(run, data_of(run, options), options)


def train(run: Run, data: Dataset, options: argparse.Namespace) -> None:
    """Train with a progress bar on a terminal, plain lines elsewhere; then draw the figures."""
    options.saved = run.folder
    config, n = run.trainer.config, len(data.train_images)
    if data.note:
        print(data.note)
    size = sum(p.size for p in run.model.parameters())
    print(f"{data.name}: {n:,} images {'x'.join(map(str, data.image_shape))} to train, {len(data.test_images):,} to test")
    print(f"model: {run.model.arch}, {run.model.latent} latents, {size:,} parameters; run folder: {run.folder}", flush=True)
    announce_compiling()
    first, start = run.epochs_done, time.perf_counter()
    with tqdm(total=n * config.epochs, initial=n * first, unit=" images", unit_scale=True, disable=None, dynamic_ncols=True) as bar:

        def step(done: int, loss: float) -> None:
            bar.set_description(f"epoch {run.epochs_done + 1}/{config.epochs}", refresh=False)
            bar.set_postfix_str(f"loss {loss:.2f}", refresh=False)
            bar.update(n * run.epochs_done + done - bar.n)

        def epoch(line: dict[str, Any]) -> None:
            train, test = line["train"], line["test"]
            left = (time.perf_counter() - start) / (run.epochs_done - first) * (config.epochs - run.epochs_done)
            bar.write(
                f"epoch {line['epoch']:3d}/{config.epochs}  train {train['loss']:8.2f} = {train['reconstruction']:.2f} + "
                f"{'' if config.beta == 1 else f'{config.beta:g} x '}{train['kl']:.2f}  test {test['loss']:8.2f} nats"
                f"  {n / line['seconds']:,.0f} images/s  {left:.0f} s left"
            )
            sys.stdout.flush()

        run.train(data, step, epoch)
    draw(run, data)


def announce_compiling() -> None:
    """Tell a newcomer why nothing seems to happen."""
    kernels = kernel_folder()
    if kernels is None or not any(kernels.rglob("*.nbi")):
        print("compiling the kernels for this processor: once, and for about half a minute", flush=True)


def draw(run: Run, data: Dataset) -> None:
    """The figures of a finished run."""
    from .. import plots

    write_figure(run.folder / "reconstructions.png", plots.reconstructions(*reconstructions(run, data, 20)))
    write_figure(run.folder / "samples.png", plots.samples(prior_samples(run, 100, 0), "decoded samples of the prior, z ~ N(0, I)"))
    if run.metrics:
        write_figure(run.folder / "losses.png", plots.loss_curves(run.metrics))
    if run.model.latent == 2:
        count = min(len(data.test_images), 5000)
        labels = None if data.test_labels is None else data.test_labels[:count]
        write_figure(run.folder / "latent.png", plots.latent_map(encode(run, data.test_images[:count]), labels, data.label_names))
        z1, z2, grid = plots.manifold_grid(20)
        write_figure(run.folder / "manifold.png", plots.manifold(decode(run, grid), z1, z2))


def write_figure(path: Path, figure: Any) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    write_atomically(path, png.getvalue())
    print(path)


def encode(run: Run, images: np.ndarray) -> np.ndarray:
    """Posterior means.     (N, H, W, C) uint8 -> (N, K)"""
    with no_graph():
        return np.concatenate([run.model.encode(run.on_device(to_float(part))).mean.numpy() for part in parts(images)])


def decode(run: Run, z: np.ndarray) -> np.ndarray:
    """Pixel means.     (..., K) -> (..., H, W, C)"""
    with no_graph():
        rows = z.reshape(-1, z.shape[-1]).astype(np.float32)
        images = np.concatenate([run.model.images(run.on_device(part)) for part in parts(rows)])
    return images.reshape(*z.shape[:-1], *run.model.image_shape)


def parts(a: np.ndarray, size: int = 500) -> list[np.ndarray]:
    return [a[i : i + size] for i in range(0, len(a), size)]


def reconstructions(run: Run, data: Dataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    originals = data.test_images[:count]
    return to_float(originals), decode(run, encode(run, originals))


def prior_samples(run: Run, count: int, seed: int) -> np.ndarray:
    return decode(run, Stream(seed).split("samples of the prior").normal((count, run.model.latent)))


def data_of(run: Run, options: argparse.Namespace) -> Dataset:
    """The run's data set, from another folder if the user names one."""
    source = run.source | ({} if options.data_dir is None else {"data_dir": options.data_dir})
    return load(**source)


def need(count: int, least: int, name: str) -> int:
    if count < least:
        raise UsageError(f"{name} is {count}; need at least {least}")
    return count


def reconstruct_command(options: argparse.Namespace, device: str | None) -> None:
    from .. import plots

    need(options.count, 1, "--count")
    run = Run.open(options.folder, device)
    figure = plots.reconstructions(*reconstructions(run, data_of(run, options), options.count))
    write_figure(options.out or run.folder / "reconstructions.png", figure)


def sample_command(options: argparse.Namespace, device: str | None) -> None:
    from .. import plots

    need(options.count, 1, "--count")
    run = Run.open(options.folder, device)
    figure = plots.samples(prior_samples(run, options.count, options.seed), "decoded samples of the prior, z ~ N(0, I)")
    write_figure(options.out or run.folder / "samples.png", figure)


def interpolate_command(options: argparse.Namespace, device: str | None) -> None:
    from .. import plots

    need(options.count, 1, "--count")
    need(options.steps, 2, "--steps")
    run = Run.open(options.folder, device)
    images = data_of(run, options).test_images
    if len(images) < 2 * options.count:
        raise UsageError(f"--count is {options.count}; {len(images)} test images make at most {len(images) // 2} pairs")
    chosen = Stream(options.seed).split("ends of interpolations").permutation(len(images))[: 2 * options.count]
    a, b = encode(run, images[chosen]).reshape(2, options.count, 1, -1)
    t = np.linspace(0, 1, options.steps)[:, None]
    write_figure(options.out or run.folder / "interpolations.png", plots.interpolations(decode(run, (1 - t) * a + t * b)))


def evaluate_command(options: argparse.Namespace, device: str | None) -> None:
    need(options.count, 1, "--count")
    need(options.samples, 1, "--samples")
    run = Run.open(options.folder, device)
    data = data_of(run, options)
    images, count = data.test_images, min(options.count, len(data.test_images))
    terms = losses(run.model, images, options.seed)
    print(f"{data.name}, {len(images):,} test images, after {run.epochs_done} epochs; nats per image")
    print(f"  negative ELBO    {terms['loss']:9.3f}   ({terms['loss'] / np.log(2) / np.prod(data.image_shape):.4f} bits per dimension)")
    print(f"  reconstruction   {terms['reconstruction']:9.3f}")
    print(f"  KL               {terms['kl']:9.3f}")
    same = losses(run.model, images[:count], options.seed)["loss"]
    noise = Stream(options.seed).split("importance samples")
    bound = []
    for part in tqdm(parts(images[:count], 100), unit=" batches", disable=None, leave=False):
        bound.append(log_likelihood(run.model, run.on_device(to_float(part)), noise, options.samples))
    values = np.concatenate(bound)
    error = values.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
    print(
        f"  -log p(x) <=     {-values.mean():9.3f}   (+- {error:.3f}; k = {options.samples} importance samples; "
        f"the first {count:,} images, whose negative ELBO is {same:.3f})"
    )
    print(f"  active latents   {int(active_units(encode(run, images)).sum()):5d} of {run.model.latent}")


def info_command(options: argparse.Namespace, device: str | None) -> None:
    import llvmlite.binding
    import numba

    print(f"minivae {VERSION}, Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("numpy", "numba", "matplotlib", "tqdm", "pillow", "mlxtend", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            print(f"  {package:14s}{version(package)}")
        except PackageNotFoundError:
            print(f"  {package:14s}not installed")
    print("backends")
    print("  numpy         references, any dtype")
    print(f"  numba         float32 kernels for {llvmlite.binding.get_host_cpu_name()}, {numba.get_num_threads()} threads")
    try:
        cupy = gpu()
        for i in range(cupy.cuda.runtime.getDeviceCount()):
            properties = cupy.cuda.runtime.getDeviceProperties(i)
            print(f"  cupy          {properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB")
    except UsageError as error:
        print(f"  cupy          {error}")
    print("folders")
    cache = cache_folder()
    size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) if cache.is_dir() else 0
    print(f"  cache         {cache} ({size / 2**20:.1f} MiB; set MINIVAE_CACHE to move it)")
    for name in ("mnist", "fashion-mnist"):
        try:
            load(name, download=False, progress=False)
            print(f"  {name:14s}found")
        except MinivaeError:
            print(f"  {name:14s}not found; the first training on it downloads it")
