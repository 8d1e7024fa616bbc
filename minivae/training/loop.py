"""The training loop: a Trainer holds everything that decides the next step, and nothing else does.

The order of the data and the noise of epoch n are streams named after n, functions of the seed; so the whole state is the parameters,
the optimizer's arrays, the streams of the model's own layers, and the number of epochs done.  A run that is stopped and resumed makes
the same bytes as one that never was.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial, wraps
from typing import Any

import numpy as np

from ..backend import Array, backend_of, precision, to_device, use_precision, xp
from ..data import batch_indices, batches, binarize, to_float
from ..engine import no_grad
from ..errors import ShapeError, UsageError
from ..models import conditioned
from ..objectives import Terms, elbo
from ..random import Stream
from ..replay import Captured, captured
from .config import OPTIMIZERS, TrainingConfig
from .graph import DeviceEpochs, measures_on_gpu
from .nonfinite import explain
from .optimizers import clip_gradients, gradient_norm
from .schedules import kl_weight, learning_rate


def at_its_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """A Trainer's method, with products of the precision that its config asks for."""

    @wraps(method)
    def precisely(self: "Trainer", *arguments: Any, **options: Any) -> Any:
        if self.config.precision == precision():
            return method(self, *arguments, **options)
        with use_precision(self.config.precision):
            return method(self, *arguments, **options)

    return precisely


class Trainer:
    """Trains a model by its objective on images (N, H, W, C) of bytes.

    objective(model, x, rng, beta) -> Terms; by default what the config says.
    """

    players = 1  # that a step updates

    def __init__(self, model: Any, config: TrainingConfig, objective: Callable[..., Terms] | None = None):
        if config.precision == "tf32" and xp(model.parameters()[0].data) is np:
            raise UsageError(
                "precision is tf32, that of a GPU's tensor cores, and the model is on the CPU; move it there with model.to('cuda') "
                "(--device cuda), or take the precision fp32"
            )
        self.model, self.config, self.objective = model, config, objective
        self.optimizer = OPTIMIZERS[config.optimizer](model.parameters(), config.lr)
        self.epochs_done = 0
        self.size = 0  # images in the data; an epoch finds it out
        self.noise = Stream(config.seed)  # what the captured step draws from; its state is that of the step's own stream
        self.captured: Captured | None = None
        self.on_gpu: DeviceEpochs | None = None

    @at_its_precision
    def epoch(
        self, images: np.ndarray, progress: Callable[[int, float], None] | None = None, conditions: np.ndarray | None = None
    ) -> dict[str, float]:
        """One pass over the images in a fresh order.  Returns means over the images: loss, reconstruction, kl (nats), and the mean
        norm of the gradient; `progress(images done, loss)` is called after each step, on a GPU after as many as are read together
        (see graph.py).  What a CVAE is told of the images are the conditions, labels (N,) or numbers (N, ...)."""
        config, number = self.config, self.epochs_done + 1
        root = Stream(config.seed)
        noise, bits, order = (root.split(f"{what} of epoch {number}") for what in ("noise", "bits", "order"))
        if self.size != len(images):
            self.size, self.captured = len(images), None  # a recording holds the old number
        self.model.train()
        if xp(self.optimizer.flat) is np:
            totals = self.epoch_on_cpu(images, (noise, bits, order), conditions, progress, f"epoch {number}")
        else:
            self.on_gpu = self.on_gpu or DeviceEpochs(self)
            totals = self.on_gpu.epoch(images, (noise, bits, order), conditions, progress, f"epoch {number}")
        self.epochs_done = number
        return dict(zip(("loss", "reconstruction", "kl", "gradient_norm"), (totals / max(len(images), 1)).tolist(), strict=True))

    def epoch_on_cpu(
        self, images: np.ndarray, streams: tuple[Stream, Stream, Stream], conditions: Any, progress: Any, name: str
    ) -> np.ndarray:
        """One pass, its noise, bits and order from the streams.  -> the sums over the images of loss, reconstruction, kl and norm."""
        config, (noise, bits, order), module = self.config, streams, xp(images)
        steps = -(-len(images) // config.batch_size)
        totals, done = np.zeros(4), 0
        for i, at in enumerate(batch_indices(len(images), config.batch_size, order)):
            warmed = self.pace(i, steps)
            x = to_float(images[module.asarray(at)])
            x = binarize(x, bits) if config.binarize else x
            c = None if conditions is None else conditions[at]
            loss, *rest = self.step(x, noise, f"{name}, step {i + 1} of {steps}", c, warmed)
            totals += len(x) * np.array([loss, *rest])
            done += len(x)
            if progress is not None:
                progress(done, loss)
        return totals

    def pace(self, i: int, steps: int) -> float:
        """Set the learning rate for step i of this epoch's `steps`; returns how far the warm-up of the KL has come, from 0 to 1."""
        config, step = self.config, self.epochs_done * steps + i
        rate = learning_rate(config.lr_schedule, step, config.epochs * steps, round(config.lr_warmup * steps))
        self.optimizer.lr = config.lr * rate
        return kl_weight(step, round(config.kl_warmup * steps))

    @at_its_precision
    def step(self, x: np.ndarray, noise: Stream, where: str = "training", condition: Any = None, warmed: float = 1.0) -> tuple[float, ...]:
        """One update.  Returns loss, reconstruction, kl and the norm of the gradient; a NonFiniteError leaves the parameters alone.

        `warmed` is how far the warm-up of the KL has come, from 0 to 1."""
        x, before = like(self.model, x), noise.state()
        self.noise.set_state(before)
        terms, gs = self.compiled(condition, warmed)(x)
        noise.set_state(self.noise.state())
        loss, _, _, norm = measures = measured(terms, gs)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            noise.set_state(before)
            terms = self.loss(warmed)(conditioned(self.model, condition), x, noise)
            raise explain(terms.loss, self.model.named_parameters(), where)
        if self.config.clip is not None:
            gs = clip_gradients(gs, self.config.clip)
        self.optimizer.step(gs)
        return measures

    def loss(self, warmed: float) -> Callable[..., Terms]:
        """The objective, (model, x, rng) -> Terms."""
        return self.config.loss(warmed, self.size) if self.objective is None else partial(self.objective, beta=self.config.beta * warmed)

    def compiled(self, condition: Any, warmed: float) -> Callable[..., tuple[Terms, list[Any]]]:
        """The step: captured where nothing but the images changes from one to the next, eager elsewhere."""
        model, params = self.model, self.optimizer.params
        if condition is not None or warmed != 1 or model.named_buffers() or xp(params[0].data) is not np:
            return Captured(lambda x: self.loss(warmed)(conditioned(model, condition), x, self.noise), params).eager
        if self.captured is None:
            self.captured = captured(lambda x: self.loss(1.0)(model, x, self.noise), params)
        return self.captured

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


def losses(
    model: Any,
    images: np.ndarray,
    seed: int = 0,
    beta: float = 1.0,
    batch_size: int = 500,
    conditions: np.ndarray | None = None,
    objective: Callable[..., Terms] | None = None,
    binarized: bool = False,
) -> dict[str, float]:
    """Means over the images of the loss, its reconstruction and its kl, in nats: of reconstruction + beta kl with one sample of z an image,
    or of another objective (model, x, rng) -> Terms.

    The noise, and the bits of images that are to be binarized, depend on the seed and the batch size alone: the same model has the same
    loss."""
    root = Stream(seed)
    noise, bits = root.split("noise of the evaluation"), root.split("bits of the evaluation")
    objective = partial(elbo, beta=beta) if objective is None else objective
    model.train(False)
    totals = np.zeros(3)
    with no_grad():
        for x, at in zip(batches(images, batch_size), batch_indices(len(images), batch_size), strict=True):
            told = conditioned(model, None if conditions is None else conditions[at])
            terms = objective(told, like(model, binarize(x, bits) if binarized else x), noise)
            totals += len(x) * np.array([terms.loss.item(), float(terms.reconstruction.data.mean()), float(terms.kl.data.mean())])
    return dict(zip(("loss", "reconstruction", "kl"), (totals / max(len(images), 1)).tolist(), strict=True))


def measured(terms: Terms, gs: list[Array]) -> tuple[float, ...]:
    """Loss, -mean log p(x | z), mean KL, and the norm of the gradient."""
    if backend_of(terms.loss.data) == "cupy" and all(a.dtype == np.float32 for a in (terms.loss, *gs)):
        return measures_on_gpu(terms, gs)
    return terms.loss.item(), -float(terms.log_likelihood.data.mean()), float(terms.kl.data.mean()), gradient_norm(gs)


def like(model: Any, x: np.ndarray) -> Any:
    """x on the device and in the precision of the model."""
    own = model.parameters()[0].data
    return to_device(x, "cpu" if xp(own) is np else "cuda").astype(own.dtype, copy=False)
