"""Training in one call, for Python users."""

from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..data import Dataset
from ..errors import ShapeError
from ..objectives import Objective
from .config import TrainingConfig
from .loop import Trainer


def fit(model: Any, data: Any, objective: Objective | None = None, progress: bool = True, **config: Any) -> Trainer:
    """Train a model, in place, with a bar of progress (also in a notebook).  Returns its Trainer, whose `metrics` has a line an epoch.

        trainer = mv.fit(model, mv.data.load("digits5k"), epochs=5, lr=2e-3)
        trainer.metrics[-1]["test"]["loss"]

    data         a Dataset, or an array (N, ...): bytes, taken as pixels, or floats; or (array, labels)
    objective    by default Elbo()
    config       TrainingConfig's: epochs, batch_size, lr, optimizer, lr_schedule, lr_warmup, clip, seed, precision, binarize
    """
    images, labels, test, test_labels = arrays_of(data)
    trainer = Trainer(model, TrainingConfig(**config), objective)
    n, last = len(images), trainer.config.epochs
    quiet = {} if progress else {"disable": True}
    with tqdm(total=n * last, unit=" images", unit_scale=True, dynamic_ncols=True, **quiet) as bar:

        def step(done: int, loss: float) -> None:
            bar.set_description(f"epoch {trainer.epochs_done + 1}/{last}", refresh=False)
            bar.set_postfix_str(f"loss {loss:.2f}", refresh=False)
            bar.update(n * trainer.epochs_done + done - bar.n)

        while trainer.epochs_done < last:
            line: dict[str, Any] = {"train": trainer.epoch(images, labels, progress=step), "epoch": trainer.epochs_done}
            if test is not None:
                line["test"] = trainer.evaluate(test, test_labels, size=n)
            trainer.metrics.append(line)
    return trainer


def arrays_of(data: Any) -> tuple[Any, Any, Any, Any]:
    """(images, labels, test images, test labels) of what fit takes."""
    if isinstance(data, Dataset):
        return data.train_images, data.train_labels, data.test_images, data.test_labels
    images, labels = data if isinstance(data, tuple) else (data, None)
    images = np.asarray(images)
    if images.ndim < 2 or not len(images) or (labels is not None and len(labels) != len(images)):
        there = "no" if labels is None else len(labels)
        raise ShapeError(f"fit: data are {images.dtype} {images.shape} with {there} labels; need an array (N, ...), and as many labels")
    return images, None if labels is None else np.asarray(labels), None, None
