"""The training loop: a Trainer holds everything that decides the next step, and nothing else does.

The order of the data and the noise of epoch n are streams named after n, functions of the seed; so the whole state is the players'
parameters, their optimizers' arrays, the streams of their own layers, and the number of epochs done.  A run that is stopped and resumed
makes the same bytes as one that never was.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np

from ..backend import Array, precision, use_precision, xp
from ..data import Batch, batch_indices, binarize, to_float
from ..engine import gradients
from ..errors import ShapeError, UsageError
from ..objectives import Objective, Progress, as_objective, default_objective
from ..random import Stream
from ..replay import Replay
from .config import OPTIMIZERS, TrainingConfig
from .graph import DeviceEpochs
from .losses import losses
from .measures import Sums, Told, like_array
from .nonfinite import explain
from .optimizers import Optimizer, clip_gradients
from .schedules import learning_rate


class Trainer:
    """Trains a model, and whoever plays with it, by an objective.

    players       {name: module}, the model first
    optimizers    {name: optimizer}, each with its own rule, rate and state
    replay        the recordings of its steps; `why_eager` is a sentence where there are none
    """

    def __init__(self, model: Any, config: TrainingConfig | None = None, objective: Objective | Callable[..., Any] | None = None):
        self.model, self.config, self.objective = model, config or TrainingConfig(), as_objective(objective or default_objective(model))
        lacks = [name for name in self.objective.needs if not hasattr(model, name)]
        if lacks:
            raise UsageError(
                f"the objective {type(self.objective).__name__} needs a model with {', '.join(self.objective.needs)}, and "
                f"{type(model).__name__} has no {lacks[0]}; take another objective, or another model"
            )
        own = model.parameters()[0].data
        on_cpu = xp(own) is np
        if self.config.precision == "tf32" and on_cpu:
            raise UsageError(
                "precision is tf32, that of a GPU's tensor cores, and the model is on the CPU; move it there with model.to('cuda') "
                "(--device cuda), or take the precision fp32"
            )
        self.players = self.objective.players(model, Stream(self.config.seed))
        self.optimizers: dict[str, Optimizer] = {}
        self.rates: dict[str, float] = {}
        for player in self.players.values():  # all of them first: two may be parts of one model
            player.to("cpu" if on_cpu else "cuda", own.dtype)
        for name, player in self.players.items():
            rule: dict[str, Any] = {"optimizer": self.config.optimizer, "lr": self.config.lr} | self.objective.optimizers().get(name, {})
            rule["lr"] *= rule.pop("scale", 1.0)
            self.optimizers[name] = OPTIMIZERS[rule.pop("optimizer")](player.parameters(), **rule)
            self.rates[name] = rule["lr"]
        self.turns = list(self.objective.turns()) or [tuple(self.players)]
        unknown = {name for turn in self.turns for name in turn if name not in self.objective.occasions} ^ set(self.players)
        if unknown:
            raise UsageError(f"{type(self.objective).__name__}: turns and players differ by {sorted(unknown)}; need a turn for each player")
        self.epochs_done = 0
        self.metrics: list[dict[str, Any]] = []  # a line an epoch, kept by whoever calls `epoch`
        self.noise = Stream(self.config.seed)  # what the objective draws from
        self.replay = Replay([self.objective, *self.players.values()])
        self.on_gpu: DeviceEpochs | None = None

    @property
    def why_eager(self) -> str:
        return self.replay.why_eager if self.on_gpu is None else self.on_gpu.why_eager

    def epoch(
        self,
        images: Array,
        labels: Array | None = None,
        masks: Array | None = None,
        progress: Callable[[int, float], None] | None = None,
    ) -> dict[str, float]:
        """One pass over the data in a fresh order.     images (N, ...), bytes or floats; labels, masks (N, ...)

        Returns means over the images: the loss of the first player and its gradient's norm, those of others by their names, and what the
        objective reports.  `progress(images done, loss)` is called after each step, on a GPU after as many as are read together."""
        number, n, size = self.epochs_done + 1, len(images), self.config.batch_size
        stream = self.config.stream
        self.noise.set_state(stream("noise", number).state())
        steps, sums = -(-n // size), Sums()
        for player in self.players.values():
            player.train()
        self.objective.check(self.model, labels, size)
        self.replay.doubt()
        with self.at_precision():
            if xp(self.optimizers[next(iter(self.players))].flat) is not np:
                self.on_gpu = self.on_gpu or DeviceEpochs(self)
                self.on_gpu.epoch(images, labels, masks, sums, progress)
            else:
                others, bits = self.second_batches(images, labels, masks, number), stream("bits", number)
                for i, at in enumerate(batch_indices(n, size, stream("order", number))):
                    batch = self.batch(images, labels, masks, at, bits)._replace(other=next(others, None))
                    found = self.update(batch, self.pace(i, steps, n), f"epoch {number}, step {i + 1} of {steps}")
                    sums.add(len(batch.x), found)
                    if progress is not None:
                        progress(min((i + 1) * size, n), found.get("loss", math.nan))
        self.epochs_done = number
        return sums.means()

    def batch(self, images: Array, labels: Array | None, masks: Array | None, at: Any, bits: Stream) -> Batch:
        """The images `at` these places, as the model takes them."""
        x = self.like(to_float(images[at]))
        x = binarize(x, bits) if self.config.binarize else x
        return Batch(x, None if labels is None else labels[at], None if masks is None else masks[at], at)

    def second_batches(self, images: Array, labels: Array | None, masks: Array | None, number: int) -> Iterator[Batch]:
        """Another pass in an order of its own, for an objective that wants two batches a step."""
        if self.objective.second_batch:
            order, bits = (self.config.stream(f"{what} of the others", number) for what in ("order", "bits"))
            for at in batch_indices(len(images), self.config.batch_size, order):
                yield self.batch(images, labels, masks, at, bits)

    def pace(self, i: int, steps: int, size: int) -> Progress:
        """Set the learning rates for step i of this epoch's `steps`; returns how far the training has come."""
        config, step = self.config, self.epochs_done * steps + i
        factor = learning_rate(config.lr_schedule, step, config.epochs * steps, round(config.lr_warmup * steps))
        for name, optimizer in self.optimizers.items():
            optimizer.lr = self.rates[name] * factor
        return Progress(np.array(step / steps, np.float32), self.turns[step % len(self.turns)], size)

    def step(self, batch: Batch | Array, progress: Progress | None = None, where: str = "training") -> dict[str, float]:
        """One update of the players whose turn it is.  Returns their losses, what is reported, and the norms of their gradients.

        batch       a Batch, or its x (N, ...) alone
        progress    by default the beginning of training, in the first turn

        A NonFiniteError leaves the parameters alone."""
        batch = batch if isinstance(batch, Batch) else Batch(self.like(batch))
        progress = progress or Progress(np.array(0, np.float32), self.turns[0], len(batch.x))
        with self.at_precision():
            return self.update(batch, progress, where)

    def update(self, batch: Batch, progress: Progress, where: str) -> dict[str, float]:
        arrays, present = packed(batch, progress)
        key, before = (present, progress.turn, progress.size), self.noise.state()
        moving = [name for name in progress.turn if name in self.players]
        program = self.replay.ready(key, arrays)
        if program is None:
            with self.replay.watch(key, arrays) as step:
                given, now = unpacked(step.arrays, present, progress)
                losses, reports = self.objective.losses(self.players, given, self.noise, now)
                step.results = losses, reports, [gradients(losses[name], self.optimizers[name].params) for name in moving]
        losses, reports, gs = step.results if program is None else program(arrays)
        found = self.told(losses, reports, moving, gs).numbers()
        if not all(map(math.isfinite, found.values())):
            self.noise.set_state(before)
            losses, _ = self.objective.losses(self.players, batch, self.noise, progress)
            raise explain({name: losses[name] for name in moving}, self.players, where)
        for name, g in zip(moving, gs, strict=True):
            self.optimizers[name].step(g if self.config.clip is None else clip_gradients(g, self.config.clip))
        return found

    def told(self, losses: dict[str, Any], reports: Any, turn: Sequence[str], gs: Sequence[list[Array]]) -> Told:
        """What a step has to tell."""
        return Told(next(iter(self.players)), losses, reports, turn, gs)

    def evaluate(self, images: Array, labels: Array | None = None, masks: Array | None = None, size: int | None = None) -> dict[str, float]:
        """The first player's loss of other images, and what is reported, at the end of all warming up; see `losses`."""
        few = self.objective.evaluation_batch(self.config.batch_size)
        return losses(self.model, images, self.config.seed, self.objective, labels, masks, few, self.config.binarize, self.players, size)

    def at_precision(self) -> AbstractContextManager:
        """Products of the precision that the config asks for, inside the block."""
        return nullcontext() if self.config.precision == precision() else use_precision(self.config.precision)

    def like(self, x: Array) -> Array:
        """x on the device and in the precision of the model, as its optimizer has it."""
        return like_array(next(iter(self.optimizers.values())).flat, x)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and metadata of everything that decides the next step; the model's arrays are called model/..."""
        modules = self.modules()
        arrays = {f"{name}/{inner}": a for name, module in modules.items() for inner, a in module.state().items()}
        arrays |= {f"{name}.optimizer/{slot}": a for name, optimizer in self.optimizers.items() for slot, a in optimizer.state().items()}
        return arrays, {
            "epochs_done": self.epochs_done,
            "streams": {f"{name}/{inner}": s.state() for name, module in modules.items() for inner, s in module.named_streams().items()},
            "training": asdict(self.config),
        }

    def load_state(self, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
        """Continue from a state(); the model and the kinds of optimizers must be the same."""
        modules = self.modules()
        streams = {f"{name}/{inner}": s for name, module in modules.items() for inner, s in module.named_streams().items()}
        if streams.keys() != metadata["streams"].keys():
            raise ShapeError(f"load_state: streams {sorted(metadata['streams'])}, the players' are {sorted(streams)}")
        parts: dict[str, dict[str, np.ndarray]] = {}
        for name, a in arrays.items():
            part, _, inner = name.partition("/")
            parts.setdefault(part, {})[inner] = a
        unknown = parts.keys() ^ (modules.keys() | {f"{name}.optimizer" for name in self.optimizers})
        if unknown:
            raise ShapeError(f"load_state: the state and the trainer differ by {sorted(unknown)}; the objective has other players")
        for name, module in modules.items():
            module.load_state(parts[name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state(parts[f"{name}.optimizer"])
        for name, stream in streams.items():
            stream.set_state(metadata["streams"][name])
        self.epochs_done = int(metadata["epochs_done"])

    def modules(self) -> dict[str, Any]:
        """The model, and the players that are no part of it."""
        own = {id(p) for p in self.model.parameters()}
        return {"model": self.model} | {
            name: player for name, player in self.players.items() if not {id(p) for p in player.parameters()} <= own
        }


def packed(batch: Batch, progress: Progress) -> tuple[list[Array], tuple[bool, ...]]:
    """The arrays of a batch and of the progress in a row, and which of a batch's are there."""
    every = (*batch[:4], *(batch.other or Batch(None))[:4])
    return [progress.epochs, *(a for a in every if a is not None)], tuple([a is not None for a in every])


def unpacked(arrays: Sequence[Array], present: Sequence[bool], progress: Progress) -> tuple[Batch, Progress]:
    epochs, *rest = arrays
    row = iter(rest)
    every: list[Any] = [next(row) if there else None for there in present]
    own, other = Batch(*every[:4]), Batch(*every[4:])
    return own._replace(other=None if other.x is None else other), progress._replace(epochs=epochs)
