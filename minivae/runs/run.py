"""The run folder: everything that a training run leaves behind, and all that it takes to go on.

config.json     what was asked: data set, model, training, device (for people; the checkpoint holds its own copy)
metrics.jsonl   a line an epoch: {"epoch": 1, "seconds": ..., "train": {"loss": ...}, "test": {"loss": ...}}, nats per image
model.npz       the checkpoint: weights, optimizer, streams, epochs done; written whole after every epoch
*.png           figures
"""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..backend import to_device
from ..data import Dataset
from ..errors import CheckpointError, UsageError
from ..models import VAE, build, description
from ..random import Stream
from ..version import VERSION
from .checkpoint import load, save, write_atomically
from .collapse import alarm, measure
from ..training.config import TrainingConfig
from ..training.factor import trainer_for
from ..training.loop import Trainer, like, losses

CHECKPOINT, CONFIG, METRICS = "model.npz", "config.json", "metrics.jsonl"


class Run:
    """A model, its trainer, and the folder that they are kept in.  Make one with `start` or `open`."""

    def __init__(self, folder: Path, source: dict[str, Any], trainer: Trainer, device: str):
        self.folder, self.source, self.trainer, self.device = folder, source, trainer, device
        self.metrics: list[dict[str, Any]] = []  # the lines of metrics.jsonl

    model = property(lambda self: self.trainer.model)
    epochs_done = property(lambda self: self.trainer.epochs_done)

    @classmethod
    def start(
        cls,
        folder: str | Path,
        data: Dataset,
        model: dict[str, Any],
        training: TrainingConfig,
        source: dict[str, Any] | None = None,
        device: str = "cpu",
    ) -> "Run":
        """A new run in a new or empty folder, with its untrained model saved.

        model    {"model": "vae", "ae", "cvae" or "hierarchical", **its arguments} but for the image shape and the stream; a CVAE is told
                 the labels unless the `condition` says otherwise
        source   how to load the data again, the arguments of minivae.data.load; by default the data set's name
        """
        folder = Path(folder)
        if (folder / CHECKPOINT).exists() or (folder / METRICS).exists():
            raise UsageError(
                f"{folder} holds a run already; continue it with: minivae resume {folder}, or choose another folder with --out"
            )
        asked = {"image_shape": data.image_shape} | model
        if model.get("model") == "cvae" and "condition" not in model:
            asked["condition"] = 1 + max(int(labels.max()) for labels in labels_of(data))
        untrained = build(asked, Stream(training.seed).split("initial weights"))
        run = cls(folder, source or {"name_or_path": data.name}, trainer_for(untrained.to(device), training), device)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"the folder {folder} cannot be made ({error.strerror}); choose another with --out") from error
        run.save()
        return run

    @classmethod
    def open(cls, folder: str | Path, device: str | None = None, epochs: int | None = None, precision: str | None = None) -> "Run":
        """The run in a folder as its last checkpoint left it; with a new total of epochs to train for, or a new precision, if given."""
        folder = Path(folder)
        if not (folder / CHECKPOINT).exists():
            raise CheckpointError(f"{folder} holds no run: there is no {folder / CHECKPOINT}; start one with minivae train --out {folder}")
        arrays, metadata = load(folder / CHECKPOINT)
        training = TrainingConfig(**metadata["training"])
        training = replace(training, epochs=training.epochs if epochs is None else epochs, precision=precision or training.precision)
        device = device or metadata["device"]
        trainer = trainer_for(build(metadata["model"], Stream(0)).to(device), training)
        trainer.load_state(arrays, metadata)
        run = cls(folder, metadata["data"], trainer, device)
        run.metrics = [line for line in _read_lines(folder / METRICS) if line["epoch"] <= trainer.epochs_done]
        return run

    def on_device(self, x: np.ndarray) -> Any:
        """x where the model lives."""
        return to_device(x, self.device)

    def save(self) -> None:
        """Write metrics, checkpoint and config, each whole.  The metrics go first: a line without its checkpoint is dropped and made
        again, a checkpoint without its line could not be mended."""
        arrays, metadata = self.trainer.state()
        metadata |= {"minivae": VERSION, "data": self.source, "device": self.device, "model": description(self.model)}
        lines = "".join(json.dumps(line) + "\n" for line in self.metrics)
        write_atomically(self.folder / METRICS, lines.encode())
        save(self.folder / CHECKPOINT, arrays, metadata)
        config = {key: metadata[key] for key in ("minivae", "data", "device", "model")}
        config |= {"training": asdict(self.trainer.config), "numpy": np.__version__, "python": platform.python_version()}
        write_atomically(self.folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())

    def train(
        self,
        data: Dataset,
        step: Callable[[int, float], None] | None = None,
        epoch: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Train to the last epoch, with a checkpoint after each.  Calls step(images done in this epoch, loss) and epoch(metrics)."""
        if self.model.image_shape != data.image_shape:
            raise UsageError(f"{data.name} has images {data.image_shape}, the model was trained on {self.model.image_shape}")
        config = self.trainer.config
        labels, test_labels = labels_of(data) if self.model.condition_size else (None, None)
        images = self.on_device(data.train_images)  # as bytes: a batch is gathered where the model is
        few = max(500 // config.samples, 1)
        if config.objective == "tc":
            few = min(config.batch_size, len(data.train_images))  # its estimate depends on the batch: one size for training and test
        while self.epochs_done < config.epochs:
            start = perf_counter()
            train = self.trainer.epoch(images, step, labels)
            seconds = perf_counter() - start
            test = losses(
                self.model,
                data.test_images,
                config.seed,
                1.0,
                few,
                test_labels,
                objective=self.trainer.loss(1.0),
                binarized=config.binarize,
            )
            line = {"epoch": self.epochs_done, "seconds": round(seconds, 3), "train": train, "test": test}
            line |= measure(self.model, data.test_images, test_labels, config.seed, lambda x: like(self.model, x))
            self.metrics.append(line)
            warning = alarm(self.metrics)
            if warning is not None:
                line["warning"] = warning
            self.save()
            if epoch is not None:
                epoch(self.metrics[-1])


def labels_of(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Of the training and of the test images; UsageError where there are none."""
    if data.train_labels is None or data.test_labels is None:
        raise UsageError(f"{data.name} has no labels to tell a cvae; train a vae, or name data that has them")
    return data.train_labels, data.test_labels


def load_model(path: str | Path) -> VAE:
    """The model of a run folder or of a model.npz, ready to evaluate: `load_model("runs/first").decode_mean(z)`."""
    path = Path(path)
    arrays, metadata = load(path / CHECKPOINT if path.is_dir() else path)
    model = build(metadata["model"], Stream(0))
    model.load_state({name.removeprefix("model/"): a for name, a in arrays.items() if name.startswith("model/")})
    model.train(False)
    return model


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); remove it to go on without the earlier epochs' figures") from error
