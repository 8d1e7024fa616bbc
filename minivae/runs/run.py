"""The run folder: everything that a training run leaves behind, and all that it takes to go on.

config.json     what was asked: data set, model, objective, training, device (for people; the checkpoint holds its own copy)
metrics.jsonl   a line an epoch: {"epoch": 1, "seconds": ..., "train": {"loss": ...}, "test": {"loss": ...}}, nats per image
model.npz       the checkpoint: weights, optimizers, streams, epochs done; written whole after every epoch
*.png           figures
"""

import json
import math
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..data import Batch, Dataset, to_float
from ..engine import no_grad
from ..errors import CheckpointError, NonFiniteError, UsageError
from ..kernels.cpu import jit
from ..models import build, describe, level_frequencies
from ..nn import evaluating
from ..objectives import Objective, default_objective, trained
from ..random import Stream
from ..training import Trainer, TrainingConfig
from ..version import VERSION
from . import checkpoint
from .checkpoint import write_atomically
from .collapse import alarm, measure
from .saved import CHECKPOINT, build_objective, describe_objective, read

CONFIG, METRICS = "config.json", "metrics.jsonl"


class Run:
    """A model, its trainer, and the folder that they are kept in.  Make one with `start` or `open`."""

    def __init__(self, folder: Path, source: dict[str, Any], trainer: Trainer, device: str):
        self.folder, self.source, self.trainer, self.device = folder, source, trainer, device
        self.preparation: dict[str, Any] = {}  # what was done to the data, for people to read
        self.asked: dict[str, Any] = {}  # the training's settings in the checkpoint, before others took their place

    model = property(lambda self: self.trainer.model)
    epochs_done = property(lambda self: self.trainer.epochs_done)
    metrics = property(lambda self: self.trainer.metrics)  # the lines of metrics.jsonl

    @classmethod
    def start(
        cls,
        folder: str | Path,
        data: Dataset,
        model: Any,
        training: TrainingConfig | None = None,
        source: dict[str, Any] | None = None,
        device: str = "cpu",
        objective: Objective | None = None,
    ) -> "Run":
        """A new run in a new or empty folder, with its untrained model saved.

        model     an instance; or {"model": one of models.MODELS, **its arguments} but for the image shape and the stream:
                  a CVAE's condition is the label unless the `condition` says otherwise, and a diffusion's U-Net is told how often
                  each level occurs unless the `frequencies` or `levels` do
        source    how to load the data again, the arguments of minivae.data.load; by default the data set's name
        """
        folder, training = Path(folder), training or TrainingConfig()
        if (folder / CHECKPOINT).exists() or (folder / METRICS).exists():
            raise UsageError(
                f"{folder} holds a run already; continue it with: minivae resume {folder}, or choose another folder with --out"
            )
        if isinstance(model, dict):
            asked: dict[str, Any] = {"image_shape": data.image_shape} | model
            size = {"cvae": "condition", "m2": "classes"}.get(model.get("model", ""))
            if size is not None and size not in model:
                asked[size] = 1 + max(int(labels.max()) for labels in labels_of(data))
            if model.get("model") == "diffusion" and model.get("arch") == "unet" and model.get("levels") is None:
                asked.setdefault("frequencies", level_frequencies(data.train_images))
            model = build(asked, Stream(training.seed).split("initial weights"))
        objective = objective or default_objective(model)
        trainer = Trainer(model.to(device), training, objective)
        try_out(trainer, data)
        run = cls(folder, source or {"name_or_path": data.name}, trainer, device)
        run.preparation = data.preparation
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"the folder {folder} cannot be made ({error.strerror}); choose another with --out") from error
        run.save()
        return run

    @classmethod
    def open(
        cls,
        folder: str | Path,
        device: str | None = None,
        model: Any = None,
        objective: Objective | None = None,
        **training: Any,
    ) -> "Run":
        """The run in a folder as its last checkpoint left it.

        model, objective    instances, where classes of yours cannot be made again by their names
        training            settings that are to be others from now on: epochs (a new total), lr, precision
        """
        folder = Path(folder)
        if not (folder / CHECKPOINT).exists():
            raise CheckpointError(f"{folder} holds no run: there is no {folder / CHECKPOINT}; start one with minivae train --out {folder}")
        arrays, metadata = read(folder)
        config = replace(TrainingConfig(**metadata["training"]), **{key: value for key, value in training.items() if value is not None})
        device = device or metadata["device"]
        model = build(metadata["model"], Stream(0)) if model is None else model
        objective = build_objective(metadata["objective"]) if objective is None else objective
        trainer = Trainer(model.to(device), config, objective)
        trainer.load_state(arrays, metadata)
        run = cls(folder, metadata["data"], trainer, device)
        run.asked = metadata["training"]
        trainer.metrics = [line for line in _read_lines(folder / METRICS) if line["epoch"] <= trainer.epochs_done]
        return run

    def save(self) -> None:
        """Write metrics, checkpoint and config, each whole.  The metrics go first: a line without its checkpoint is dropped and made
        again, a checkpoint without its line could not be mended."""
        arrays, metadata = self.trainer.state()
        metadata |= {"minivae": VERSION, "data": self.source, "device": self.device, "model": describe(self.model)}
        metadata["objective"] = describe_objective(self.trainer.objective)
        lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in self.metrics)
        write_atomically(self.folder / METRICS, lines.encode())
        checkpoint.save(self.folder / CHECKPOINT, arrays, metadata)
        config = {key: metadata[key] for key in ("minivae", "data", "device", "model", "objective", "training")}
        config["preparation"] = self.preparation
        config |= {"numpy": np.__version__, "python": platform.python_version()}
        write_atomically(self.folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())

    def train(
        self,
        data: Dataset,
        step: Callable[[int, float], None] | None = None,
        epoch: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Train to the last epoch, with a checkpoint after each.  Calls step(images done in this epoch, loss) and epoch(metrics).

        An epoch that leaves the model unable to tell a finite test loss raises NonFiniteError, and the checkpoint before it stays."""
        trainer, config = self.trainer, self.trainer.config
        self.preparation = data.preparation
        own = getattr(self.model, "image_shape", data.image_shape)
        if own != data.image_shape:
            raise UsageError(f"{data.name} has images {data.image_shape}, the model was trained on {own}")
        if hasattr(self.model, "condition"):
            labels_of(data)
        while trainer.epochs_done < config.epochs:
            start, before = perf_counter(), jit.compiling.seconds
            train = trainer.epoch(data.train_images, data.train_labels, progress=step)
            seconds = perf_counter() - start - (jit.compiling.seconds - before)
            test = trainer.evaluate(data.test_images, data.test_labels, size=len(data.train_images))
            self.refuse_nonfinite(train, test)
            line = {"epoch": trainer.epochs_done, "seconds": round(seconds, 3), "train": train, "test": test}
            line |= measure(self.model, data.test_images, data.test_labels, config.seed)
            self.metrics.append(line)
            warning = alarm(self.metrics)
            if warning is not None:
                line["warning"] = warning
            self.save()
            if epoch is not None:
                epoch(line)

    def refuse_nonfinite(self, train: dict[str, float], test: dict[str, float]) -> None:
        """NonFiniteError where an epoch's last update has left weights that no image can be judged by."""
        bad = [
            f"the {name} of the {part} images is {v}"
            for part, found in (("training", train), ("test", test))
            for name, v in found.items()
            if not math.isfinite(v)
        ]
        bad += [
            f"the parameter {name} holds numbers that are not finite"
            for player in self.trainer.players.values()
            for name, p in player.named_parameters().items()
            if not bool(abs(p.data).max(initial=0) < math.inf)
        ]
        if bad:
            raise NonFiniteError(
                f"epoch {self.epochs_done}: {bad[0]} after its last step; the checkpoint of epoch {self.epochs_done - 1} stays; "
                "lower the learning rate, or clip the gradient"
            )


def try_out(trainer: Trainer, data: Dataset) -> None:
    """The objective, on two images: what does not fit together is said before a folder is made, and before an epoch is waited for."""
    n = min(2, len(data.train_images))
    labels = data.train_labels
    if hasattr(trainer.model, "condition") and labels is None:
        labels_of(data)
    x = trainer.like(to_float(data.train_images[:n]))
    batch = Batch(x, None if labels is None else labels[:n], None, np.arange(n))
    own = [stream.state() for player in trainer.players.values() for stream in player.named_streams().values()]
    with no_grad(), evaluating(*trainer.players.values()):
        trainer.objective.losses(
            trainer.players, batch._replace(other=batch), Stream(0), trained(len(data.train_images), tuple(trainer.players))
        )
    for stream, state in zip((s for player in trainer.players.values() for s in player.named_streams().values()), own, strict=True):
        stream.set_state(state)


def labels_of(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Of the training and of the test images; UsageError where there are none."""
    if data.train_labels is None or data.test_labels is None:
        raise UsageError(f"{data.name} has no labels for a cvae's condition; train a vae, or name data that has them")
    return data.train_labels, data.test_labels


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); remove it to go on without the earlier epochs' figures") from error
