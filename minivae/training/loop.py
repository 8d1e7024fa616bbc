"""The training loop: a Trainer holds everything that decides the next step, and nothing else does.

The order of the data and the noise of epoch n are streams named after n, functions of the seed; so the whole state is the parameters,
the optimizer's arrays, the streams of the model's own layers, and the number of epochs done.  A run that is stopped and resumed makes
the same bytes as one that never was.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..backend import to_device, xp
from ..data import batches
from ..engine import gradients, no_graph
from ..errors import ShapeError, UsageError
from ..objectives import Terms, elbo
from ..random import Stream
from .nonfinite import explain
from .optimizers import SGD, Adam, AdamW, Optimizer, clip_gradients, gradient_norm
from .schedules import SCHEDULES, kl_weight, learning_rate

OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.  Times are in epochs; kl_warmup and lr_warmup may be fractions of one."""

    epochs: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: str = "adam"
    lr_schedule: str = "constant"
    lr_warmup: float = 0.0
    clip: float | None = None  # the largest allowed norm of the gradient
    beta: float = 1.0
    kl_warmup: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("epochs", 0), ("batch_size", 1), ("lr_warmup", 0), ("beta", 0), ("kl_warmup", 0), ("seed", 0)):
            if not getattr(self, name) >= low or not math.isfinite(getattr(self, name)):
                raise UsageError(f"{name} is {getattr(self, name)}; need a number from {low} up")
        if not (self.lr > 0 and math.isfinite(self.lr)) or not (self.clip is None or self.clip > 0):
            raise UsageError(f"lr is {self.lr}, clip is {self.clip}; need positive numbers")
        for name, known in (("optimizer", OPTIMIZERS), ("lr_schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")


class Trainer:
    """Trains a model by its objective on images (N, H, W, C) of bytes.

    objective(model, x, rng, beta) -> Terms; default the ELBO.
    """

    def __init__(self, model: Any, config: TrainingConfig, objective: Callable[..., Terms] = elbo):
        self.model, self.config, self.objective = model, config, objective
        self.optimizer = OPTIMIZERS[config.optimizer](model.parameters(), config.lr)
        self.epochs_done = 0

    def epoch(self, images: np.ndarray, progress: Callable[[int, float], None] | None = None) -> dict[str, float]:
        """One pass over the images in a fresh order.  Returns means over the images: loss, reconstruction, kl (nats), and the mean
        norm of the gradient; `progress(images done, loss)` is called after each step."""
        config, number = self.config, self.epochs_done + 1
        root = Stream(config.seed)
        noise, order = root.split(f"noise of epoch {number}"), root.split(f"order of epoch {number}")
        steps_per_epoch = -(-len(images) // config.batch_size)
        self.model.train()
        totals = np.zeros(4)
        done = 0
        for i, x in enumerate(batches(images, config.batch_size, order)):
            step = self.epochs_done * steps_per_epoch + i
            self.optimizer.lr = config.lr * learning_rate(
                config.lr_schedule, step, config.epochs * steps_per_epoch, round(config.lr_warmup * steps_per_epoch)
            )
            beta = config.beta * kl_weight(step, round(config.kl_warmup * steps_per_epoch))
            loss, *rest = self.step(x, noise, beta, f"epoch {number}, step {i + 1} of {steps_per_epoch}")
            totals += len(x) * np.array([loss, *rest])
            done += len(x)
            if progress is not None:
                progress(done, loss)
        self.epochs_done = number
        return dict(zip(("loss", "reconstruction", "kl", "gradient_norm"), (totals / max(done, 1)).tolist(), strict=True))

    def step(self, x: np.ndarray, noise: Stream, beta: float, where: str = "training") -> tuple[float, float, float, float]:
        """One update.  Returns loss, reconstruction, kl and the norm of the gradient; a NonFiniteError leaves the parameters alone."""
        params = self.model.named_parameters()
        x = _like(self.model, x)
        terms = self.objective(self.model, x, noise, beta)
        gs = gradients(terms.loss, list(params.values()))
        norm = gradient_norm(gs)
        loss = terms.loss.item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise explain(terms.loss, params, where)
        if self.config.clip is not None:
            gs = clip_gradients(gs, self.config.clip)
        self.optimizer.step(gs)
        return loss, float(terms.reconstruction.data.mean()), float(terms.kl.data.mean()), norm

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and metadata of everything that decides the next step."""
        arrays = {f"model/{name}": a for name, a in self.model.state().items()}
        arrays |= {f"optimizer/{name}": a for name, a in self.optimizer.state().items()}
        return arrays, {
            "epochs_done": self.epochs_done,
            "streams": {name: stream.state() for name, stream in self.model.named_streams().items()},
            "training": asdict(self.config),
        }

    def load_state(self, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
        """Continue from a state(); the model and the kind of optimizer must be the same."""
        parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}}
        for name, a in arrays.items():
            part, _, inner = name.partition("/")
            if part in parts:
                parts[part][inner] = a
        streams = self.model.named_streams()
        if streams.keys() != metadata["streams"].keys():
            raise ShapeError(f"load_state: streams {sorted(metadata['streams'])}, the model's are {sorted(streams)}")
        self.model.load_state(parts["model"])
        self.optimizer.load_state(parts["optimizer"])
        for name, stream in streams.items():
            stream.set_state(metadata["streams"][name])
        self.epochs_done = int(metadata["epochs_done"])


def losses(model: Any, images: np.ndarray, seed: int = 0, beta: float = 1.0, batch_size: int = 500) -> dict[str, float]:
    """Means over the images of loss = reconstruction + beta kl, reconstruction and kl, in nats, one sample of z an image.

    The noise depends on the seed and the batch size alone: the same model has the same loss."""
    noise = Stream(seed).split("noise of the evaluation")
    model.train(False)
    totals = np.zeros(2)
    with no_graph():
        for x in batches(images, batch_size):
            terms = elbo(model, _like(model, x), noise)
            totals += len(x) * np.array([float(terms.reconstruction.data.mean()), float(terms.kl.data.mean())])
    reconstruction, kl = (totals / max(len(images), 1)).tolist()
    return {"loss": reconstruction + beta * kl, "reconstruction": reconstruction, "kl": kl}


def _like(model: Any, x: np.ndarray) -> Any:
    """x on the device and in the precision of the model."""
    own = model.parameters()[0].data
    return to_device(x, "cpu" if xp(own) is np else "cuda").astype(own.dtype, copy=False)
