"""minivae score: how strange is each of these images to a run?"""

import argparse
import csv
import io

import numpy as np
from tqdm import tqdm

from ..applications import anomaly_scores
from ..applications.anomaly import COMPARED, floor_of
from ..data import Examples, load_examples, to_float
from ..errors import UsageError
from ..evaluate import auroc
from ..random import Stream
from ..runs import Run, write_atomically
from .look import data_of, need, write_figure

REFERENCE = 1000  # of the run's own test images, for the shares


def examples_of(run: Run, options: argparse.Namespace) -> Examples:
    """The user's images, prepared as those of the training were unless the user says otherwise.  UsageError if they do not fit."""
    prepare = {key: getattr(options, key) or run.source.get(key) for key in ("size", "mode", "background")}
    found = load_examples(options.images, options.data_dir, **prepare)
    own = tuple(run.model.image_shape)
    if found.images.shape[1:] != own:
        fit = f"; --size {own[0]} and {'--gray' if own[2] == 1 else '--rgb'} fit image files" if len(own) == 3 and own[0] == own[1] else ""
        raise UsageError(f"{options.images} has images {found.images.shape[1:]}, the run's are {own}{fit}")
    return found


def labels_of(run: Run, found: Examples, images: str) -> np.ndarray | None:
    if not hasattr(run.model, "condition"):
        return None
    if found.labels is None:
        raise UsageError(f"the run's model has a condition, and {images} has no labels; give a data set that has, or train a vae")
    return found.labels


def score_command(options: argparse.Namespace, device: str | None) -> None:
    from .. import plots

    need(options.count, 1, "--count")
    need(options.samples, 1, "--samples")
    run = Run.open(options.folder, device)
    found = examples_of(run, options)
    labels = labels_of(run, found, options.images)
    root, binary = Stream(options.seed), run.trainer.config.binarize
    name = options.score
    if name is None:
        try:
            floor_of(run.model if labels is None else run.model.condition(labels[:1]), to_float(found.images[:1]))
            name = "less_floor"
        except UsageError:
            name = "elbo"
    data = data_of(run, options)
    chosen = root.split("reference").permutation(len(data.test_images))[:REFERENCE]

    def scored(images: np.ndarray, labels: np.ndarray | None, what: str) -> np.ndarray:
        rng, bits = root.split(what), root.split(f"bits of {what}") if binary else None
        bar = {"desc": what, "unit": " batches", "disable": None, "leave": False}
        known = None if labels is None or data.train_labels is None else data.train_labels[some]
        return anomaly_scores(
            run.model,
            images,
            rng,
            [name],
            options.samples,
            data.train_images[some],
            labels,
            known,
            bits,
            lambda batches: tqdm(batches, **bar),
        )[name]

    some = slice(REFERENCE if name in COMPARED else 0)
    own_labels = None if labels is None or data.test_labels is None else data.test_labels[chosen]
    reference = np.sort(scored(data.test_images[chosen], own_labels, "reference"))
    scores = scored(found.images, labels, "images")
    if not np.isfinite(scores).all():
        raise UsageError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite; is the model trained?")
    order = np.argsort(-scores, kind="stable")
    share = np.searchsorted(reference, scores) / len(reference)

    target = options.out or run.folder / "strangest.png"
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["rank", "image", name, "share_of_test_images_less_strange"])
    rows.writerows([rank + 1, found.names[i], f"{scores[i]:.3f}", f"{share[i]:.4f}"] for rank, i in enumerate(order))
    write_atomically(target.with_suffix(".csv"), table.getvalue().encode())
    print(f"{name} of {len(scores):,} images, nats; share: of {len(reference):,} test images of {data.name}, those that are less strange")
    print(f"{'rank':>6} {'score':>10} {'share':>6}  image")
    for rank, i in enumerate(order[: options.count]):
        print(f"{rank + 1:6d} {scores[i]:10.2f} {share[i]:6.1%}  {found.names[i]}")
    if len(scores) > 1 and len(reference) > 1:
        print(f"AUROC against the test images: {auroc(reference, scores)}; 0.5 where they are alike")
    print(target.with_suffix(".csv"))
    if found.images.ndim == 4:
        first = order[: options.count]
        captions = [f"{rank + 1}: {scores[i]:.1f}" for rank, i in enumerate(first)]
        title = f"The strangest {len(first)} of {len(scores):,} images by {name}, nats"
        write_figure(target, plots.captioned(to_float(found.images[first]), captions, title))
