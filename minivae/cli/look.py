"""The commands that look at a finished run."""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import inference
from ..data import Dataset, load, to_float
from ..distributions import StandardGaussian
from ..errors import UsageError
from ..evaluate import active_units
from ..random import Stream
from ..runs import Run, labels_of, write_atomically
from ..training import losses


def draw(run: Run, data: Dataset) -> None:
    """The figures of a finished run."""
    from .. import plots

    pictures = len(data.image_shape) == 3
    if hasattr(run.model, "encode") and pictures:
        write_figure(run.folder / "reconstructions.png", plots.reconstructions(*reconstructions(run, data, 20)))
    write_samples(run, run.folder / "samples.png", 100, 0)
    if run.metrics:
        write_figure(run.folder / "losses.png", plots.loss_curves(run.metrics))
    if hasattr(run.model, "encode") and getattr(run.model, "latent", None) == 2:
        count = min(len(data.test_images), 5000)
        labels = None if data.test_labels is None else data.test_labels[:count]
        means = inference.encode_mean(run.model, data.test_images[:count], labels)
        write_figure(run.folder / "latent.png", plots.latent_map(means, labels, data.label_names))
        if pictures and not hasattr(run.model, "condition"):  # else there is a manifold for each condition
            z1, z2, grid = plots.manifold_grid(20)
            write_figure(run.folder / "manifold.png", plots.manifold(inference.decode_mean(run.model, grid), z1, z2))


def write_figure(path: Path, figure: Any) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    write_atomically(path, png.getvalue())
    print(path)


def reconstructions(run: Run, data: Dataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    originals, labels = data.test_images[:count], labels_for(run, data, slice(count))
    return to_float(originals), inference.reconstruct(run.model, originals, labels)


def labels_for(run: Run, data: Dataset, which: Any = slice(None)) -> np.ndarray | None:
    """The condition of these test images, for a model that has one."""
    return labels_of(data)[1][which] if hasattr(run.model, "condition") else None


def prior_samples(run: Run, count: int, seed: int, label: int | None = None) -> tuple[np.ndarray, str]:
    """Images and a title; without a label, a conditional model draws its labels in turn."""
    rng, model = Stream(seed).split("samples of the prior"), run.model
    if not hasattr(model, "condition"):
        if label is not None:
            raise UsageError(f"--label is {label}, but the model has no condition; train one with --model cvae")
        known = hasattr(model, "encode") or type(model.prior) is StandardGaussian
        return inference.sample(model, rng, count), f"decoded samples of the prior{', z ~ N(0, I)' if known else ''}"
    classes = model.condition_size
    if label is not None and not 0 <= label < classes:
        raise UsageError(f"--label is {label}; the model knows 0 to {classes - 1}")
    labels = np.arange(count) % classes if label is None else np.full(count, label)
    which = f"label {label}" if label is not None else f"labels 0 to {classes - 1} in turn"
    return inference.sample(model, rng, count, labels), f"decoded samples of the prior p(z | c), {which}"


def data_of(run: Run, options: argparse.Namespace) -> Dataset:
    """The run's data set, from another folder if the user names one."""
    source = run.source | ({} if options.data_dir is None else {"data_dir": options.data_dir})
    return load(**source)


def pictures_of(run: Run, options: argparse.Namespace) -> Dataset:
    """The run's data set, for a picture of it."""
    data = data_of(run, options)
    if len(data.image_shape) != 3:
        raise UsageError(f"{data.name} holds arrays {data.image_shape}, which are no images to draw; use mv.inference in Python")
    return data


def need(count: int, least: int, name: str) -> int:
    if count < least:
        raise UsageError(f"{name} is {count}; need at least {least}")
    return count


def reconstruct_command(options: argparse.Namespace, device: str | None) -> None:
    from .. import plots

    need(options.count, 1, "--count")
    run = Run.open(options.folder, device)
    figure = plots.reconstructions(*reconstructions(run, pictures_of(run, options), options.count))
    write_figure(options.out or run.folder / "reconstructions.png", figure)


def write_samples(run: Run, path: Path, count: int, seed: int, label: int | None = None) -> None:
    """A picture of images, or of what is none an .npy file of that name."""
    from .. import plots

    made, title = prior_samples(run, count, seed, label)
    if made.ndim == 4:
        write_figure(path, plots.samples(made, title))
        return
    buffer = io.BytesIO()
    np.save(buffer, made)
    write_atomically(path.with_suffix(".npy"), buffer.getvalue())
    print(path.with_suffix(".npy"))


def sample_command(options: argparse.Namespace, device: str | None) -> None:
    need(options.count, 1, "--count")
    run = Run.open(options.folder, device)
    write_samples(run, options.out or run.folder / "samples.png", options.count, options.seed, options.label)


def interpolate_command(options: argparse.Namespace, device: str | None) -> None:
    from .. import plots

    need(options.count, 1, "--count")
    need(options.steps, 2, "--steps")
    run = Run.open(options.folder, device)
    data, count = pictures_of(run, options), options.count
    images = data.test_images
    if len(images) < 2 * count:
        raise UsageError(f"--count is {count}; {len(images)} test images make at most {len(images) // 2} pairs")
    chosen = Stream(options.seed).split("ends of interpolations").permutation(len(images))[: 2 * count]
    labels = labels_for(run, data, chosen)
    rows = None if labels is None else np.eye(run.model.condition_size, dtype=np.float32)[labels]
    ends = None if rows is None else (rows[:count], rows[count:])
    between = inference.interpolate(run.model, images[chosen[:count]], images[chosen[count:]], options.steps, ends)
    write_figure(options.out or run.folder / "interpolations.png", plots.interpolations(between))


def evaluate_command(options: argparse.Namespace, device: str | None) -> None:
    need(options.count, 1, "--count")
    need(options.samples, 1, "--samples")
    run = Run.open(options.folder, device)
    model, data = run.model, data_of(run, options)
    if not hasattr(model, "encode"):
        objective = type(run.trainer.objective).__name__
        print(f"{data.name}, {len(data.test_images):,} test images, after {run.epochs_done} epochs; what {objective} reports")
        found = run.trainer.evaluate(data.test_images, labels_for(run, data), size=len(data.train_images))
        for name, value in found.items():
            print(f"  {name:16s} {value:9.3f}")
        if {"reconstruction", "kl"} <= set(found):
            bound = found["reconstruction"] + found["kl"]
            bits = bound / np.log(2) / np.prod(data.image_shape)
            print(f"  {'bound':16s} {bound:9.3f}   (-log p(x) is less; {bits:.4f} bits per dimension)")
        return
    images, count, labels = data.test_images, min(options.count, len(data.test_images)), labels_for(run, data)
    binary = run.trainer.config.binarize

    def mean_losses(n: int) -> dict[str, float]:
        return losses(model, images[:n], options.seed, labels=None if labels is None else labels[:n], binarized=binary)

    terms = mean_losses(len(images))
    has_bound = has_density(model, images[:1], None if labels is None else labels[:1])
    print(f"{data.name}, {len(images):,} test images, after {run.epochs_done} epochs; nats per image")
    if has_bound:
        bits = terms["loss"] / np.log(2) / np.prod(data.image_shape)
        print(f"  negative ELBO    {terms['loss']:9.3f}   ({bits:.4f} bits per dimension)")
    print(f"  reconstruction   {terms['reconstruction']:9.3f}")
    if has_bound:
        print(f"  KL               {terms['kl']:9.3f}")
        root = Stream(options.seed)
        values = inference.bound(
            model,
            images[:count],
            root.split("importance samples"),
            options.samples,
            None if labels is None else labels[:count],
            root.split("bits of the importance samples") if binary else None,
            lambda batches: tqdm(batches, unit=" batches", disable=None, leave=False),
        )
        error = f"+- {values.std(ddof=1) / np.sqrt(count):.3f}; " if count > 1 else ""
        print(
            f"  -log p(x) <=     {-values.mean():9.3f}   ({error}k = {options.samples} importance samples; "
            f"the first {count:,} images, whose negative ELBO is {mean_losses(count)['loss']:.3f})"
        )
    print(f"  active latents   {int(active_units(inference.encode_mean(model, images, labels)).sum()):5d} of {model.latent}")


def has_density(model: Any, x: np.ndarray, labels: np.ndarray | None) -> bool:
    """Whether q(z | x) has a density, so that there is a bound on log p(x): an autoencoder's point has none."""
    try:
        inference.bound(model, x, Stream(0), 1, labels)
    except UsageError:
        return False
    return True
