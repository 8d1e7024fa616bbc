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
from ..data import NAMES, Dataset, binarize, cache_folder, load, to_float
from ..engine import no_grad
from ..errors import MinivaeError, UsageError
from ..evaluate import active_units, log_likelihood
from ..kernels.cpu.jit import cache_folder as kernel_folder
from ..models import AE, conditioned, lerp
from ..random import Stream
from ..runs import Run, write_atomically
from ..training import TrainingConfig, losses
from ..version import VERSION


def train_command(options: argparse.Namespace, device: str | None) -> None:
    training = TrainingConfig(**{name: getattr(options, name) for name in TrainingConfig.__dataclass_fields__})
    data = load(options.dataset, options.data_dir)
    model = {name: getattr(options, name) for name in ("arch", "hidden", "channels", "latent", "activation", "likelihood", "head", "model")}
    model |= {name: value for name, value in (("prior_kind", options.prior), ("top", options.top)) if value is not None}
    known = data.name in NAMES
    source = {"name_or_path": data.name if known else str(Path(options.dataset).absolute())}
    if options.data_dir is not None:
        source["data_dir"] = str(Path(options.data_dir).absolute())
    folder = options.out or Path("runs") / "-".join(
        [Path(data.name).stem, *([] if options.model == "vae" else [options.model]), options.arch, f"z{options.latent}"]
    )
    run = Run.start(folder, data, model, training, source, device or "cpu")
    train(run, data, options)


def resume_command(options: argparse.Namespace, device: str | None) -> None:
    run = Run.open(options.folder, device, options.epochs, options.precision)
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
    print(
        f"model: {type(run.model).__name__}, {run.model.arch}, {run.model.latent} latents, {size:,} parameters; run folder: {run.folder}",
        flush=True,
    )
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
                f"epoch {line['epoch']:3d}/{config.epochs}  train {train['loss']:8.2f} {parts_of_loss(config, train)}  "
                f"test {test['loss']:8.2f} nats  {n / line['seconds']:,.0f} images/s  {left:.0f} s left"
            )
            if "warning" in line:
                bar.write(f"warning: {line['warning']}")
            on_gpu = run.trainer.on_gpu
            if line["epoch"] == first + 1 and on_gpu is not None and on_gpu.why_eager:
                bar.write(f"note: every kernel of a step is launched by itself, since {on_gpu.why_eager}")
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
    write_figure(run.folder / "samples.png", plots.samples(*prior_samples(run, 100, 0)))
    if run.metrics:
        write_figure(run.folder / "losses.png", plots.loss_curves(run.metrics))
    if run.model.latent == 2:
        count = min(len(data.test_images), 5000)
        labels = None if data.test_labels is None else data.test_labels[:count]
        means = encode(run, data.test_images[:count], conditions(run, labels))
        write_figure(run.folder / "latent.png", plots.latent_map(means, labels, data.label_names))
        if not run.model.condition_size:  # else there is a manifold for each condition
            z1, z2, grid = plots.manifold_grid(20)
            write_figure(run.folder / "manifold.png", plots.manifold(decode(run, grid), z1, z2))


def parts_of_loss(config: TrainingConfig, terms: dict[str, float]) -> str:
    """What the printed loss is made of, by its objective."""
    reconstruction, kl = f"{terms['reconstruction']:.2f}", f"{terms['kl']:.2f}"
    if config.objective == "iwae":
        return f"(one sample: {reconstruction} + {kl})"
    if config.objective in ("tc", "factor"):
        rest = f"{terms['loss'] - terms['reconstruction'] - terms['kl']:+.2f}"
        # about (beta - 1) (K - 1) log N, which no weight moves: see objectives.minibatch_parts
        constant = ", with a constant of its estimate" if config.objective == "tc" else ""
        return f"= {reconstruction} + {kl} {rest} for the total correlation{constant}"
    if config.capacity is not None:
        return f"= {reconstruction} + {config.beta:g} x |{kl} - {config.capacity:g}|"
    return f"= {reconstruction} + {'' if config.beta == 1 else f'{config.beta:g} x '}{kl}{', free bits apart' if config.free_bits else ''}"


def write_figure(path: Path, figure: Any) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    write_atomically(path, png.getvalue())
    print(path)


def conditions(run: Run, labels: np.ndarray | None, which: slice = slice(None)) -> np.ndarray | None:
    """What the model is told of these images: their labels as one-hot rows, or nothing.     (N,) -> (N, condition)"""
    if not run.model.condition_size:
        return None
    if labels is None:
        raise UsageError("the model needs labels, and the data have none; name data that have them")
    return np.eye(run.model.condition_size, dtype=np.float32)[labels[which]]


def encode(run: Run, images: np.ndarray, told: np.ndarray | None = None) -> np.ndarray:
    """Posterior means.     (N, H, W, C) uint8, told (N, condition) -> (N, K)"""
    with no_grad():
        at = parts(len(images))
        return np.concatenate([part_of(run, told, i).encode(run.on_device(to_float(images[i]))).mean.numpy() for i in at])


def decode(run: Run, z: np.ndarray, told: np.ndarray | None = None) -> np.ndarray:
    """Pixel means.     (..., K), told (..., condition) -> (..., H, W, C)"""
    with no_grad():
        rows = z.reshape(-1, z.shape[-1]).astype(np.float32)
        told = None if told is None else told.reshape(len(rows), -1)
        images = np.concatenate([part_of(run, told, i).decode_mean(run.on_device(rows[i])) for i in parts(len(rows))])
    return images.reshape(*z.shape[:-1], *run.model.image_shape)


def part_of(run: Run, told: np.ndarray | None, i: slice) -> Any:
    """The model, told of some of the images."""
    return conditioned(run.model, None if told is None else told[i])


def parts(n: int, size: int = 500) -> list[slice]:
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def reconstructions(run: Run, data: Dataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    originals, told = data.test_images[:count], conditions(run, data.test_labels, slice(count))
    return to_float(originals), decode(run, encode(run, originals, told), told)


def prior_samples(run: Run, count: int, seed: int, label: int | None = None) -> tuple[np.ndarray, str]:
    """Images and a title; without a label, a conditional model draws its labels in turn."""
    rng, model = Stream(seed).split("samples of the prior"), run.model
    if not model.condition_size:
        if label is not None:
            raise UsageError(f"--label is {label}, but the model is told no labels; train one with --model cvae")
        return decode(run, model.sample_prior(rng, count).numpy()), "decoded samples of the prior, z ~ N(0, I)"
    if label is not None and not 0 <= label < model.condition_size:
        raise UsageError(f"--label is {label}; the model knows 0 to {model.condition_size - 1}")
    labels = np.arange(count) % model.condition_size if label is None else np.full(count, label)
    told = np.eye(model.condition_size, dtype=np.float32)[labels]
    with no_grad():
        z = model.condition(told).sample_prior(rng, count).numpy()
    which = f"label {label}" if label is not None else f"labels 0 to {model.condition_size - 1} in turn"
    return decode(run, z, told), f"decoded samples of the prior p(z | c), {which}"


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
    figure = plots.samples(*prior_samples(run, options.count, options.seed, options.label))
    write_figure(options.out or run.folder / "samples.png", figure)


def interpolate_command(options: argparse.Namespace, device: str | None) -> None:
    from .. import plots

    need(options.count, 1, "--count")
    need(options.steps, 2, "--steps")
    run = Run.open(options.folder, device)
    data = data_of(run, options)
    images = data.test_images
    if len(images) < 2 * options.count:
        raise UsageError(f"--count is {options.count}; {len(images)} test images make at most {len(images) // 2} pairs")
    chosen = Stream(options.seed).split("ends of interpolations").permutation(len(images))[: 2 * options.count]
    told = None if data.test_labels is None else conditions(run, data.test_labels[chosen])

    def between(ends: np.ndarray) -> np.ndarray:
        """(2 count, F) -> (count, steps, F)"""
        return lerp(ends[: options.count], ends[options.count :], np.linspace(0, 1, options.steps))

    rows = decode(run, between(encode(run, images[chosen], told)), None if told is None else between(told))
    write_figure(options.out or run.folder / "interpolations.png", plots.interpolations(rows))


def evaluate_command(options: argparse.Namespace, device: str | None) -> None:
    need(options.count, 1, "--count")
    need(options.samples, 1, "--samples")
    run = Run.open(options.folder, device)
    data = data_of(run, options)
    images, count = data.test_images, min(options.count, len(data.test_images))
    told = conditions(run, data.test_labels)
    binary = run.trainer.config.binarize

    def mean_losses(n: int) -> dict[str, float]:
        return losses(run.model, images[:n], options.seed, conditions=None if told is None else told[:n], binarized=binary)

    terms = mean_losses(len(images))
    print(f"{data.name}, {len(images):,} test images, after {run.epochs_done} epochs; nats per image")
    point = isinstance(run.model, AE)
    if not point:
        bits = terms["loss"] / np.log(2) / np.prod(data.image_shape)
        print(f"  negative ELBO    {terms['loss']:9.3f}   ({bits:.4f} bits per dimension)")
    print(f"  reconstruction   {terms['reconstruction']:9.3f}")
    if not point:
        print(f"  KL               {terms['kl']:9.3f}")
        root = Stream(options.seed)
        noise, bits_of = root.split("importance samples"), root.split("bits of the importance samples")
        bound = []
        for i in tqdm(parts(count, 100), unit=" batches", disable=None, leave=False):
            x = to_float(images[i])
            x = binarize(x, bits_of) if binary else x
            bound.append(log_likelihood(part_of(run, told, i), run.on_device(x), noise, options.samples))
        values = np.concatenate(bound)
        error = values.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
        print(
            f"  -log p(x) <=     {-values.mean():9.3f}   (+- {error:.3f}; k = {options.samples} importance samples; "
            f"the first {count:,} images, whose negative ELBO is {mean_losses(count)['loss']:.3f})"
        )
    print(f"  active latents   {int(active_units(encode(run, images, told)).sum()):5d} of {run.model.latent}")


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
