"""What an objective is: a training problem as an object, with players.

A player is a module with an optimizer of its own.  An objective says which players there are, and what each of them minimises:

    @dataclass(frozen=True)
    class Elbo(Objective):
        beta: float = 1.0

        def losses(self, players, batch, rng, progress):
            model = players["model"]
            ...
            return {"model": loss}, {"reconstruction": reconstruction, "kl": divergence}

Its fields are its flags on the command line, its entry in a checkpoint, and its page.  Losses are nats per image: sums over pixels and
latents, the mean over the batch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..data import Batch
from ..engine import Tensor
from ..errors import UsageError
from ..ops import minimum, multiply
from ..random import Stream

Players = dict[str, Any]  # {"model": a Module, ...}
Reports = Mapping[str, Any]  # {"kl": a number per image, or one for all}


class Progress(NamedTuple):
    """How far the training has come."""

    epochs: Any  # (), epochs done and the fraction of this one: an array, so that a recorded step takes the new number
    turn: tuple[str, ...]  # the players whose losses are asked for, and the objective's occasions that it is time for
    size: int  # images in the data


def trained(size: int, turn: Sequence[str] = ()) -> Progress:
    """The end of training, where an evaluation stands: whatever warms up has done so."""
    return Progress(np.array(np.inf, np.float32), tuple(turn), size)


class Terms(NamedTuple):
    """A loss and what it is made of."""

    loss: Tensor  # (), what is minimised
    reconstruction: Tensor  # (N,), -log p(x | z), one sample of z an image
    kl: Tensor  # (N,), KL(q(z | x) || p(z))


def setting(default: Any, help: str, low: float | None = None, metavar: str | None = None, choices: Sequence[str] | None = None) -> Any:
    """A field of an objective: its default, its help on the command line, the least number that it may be, what stands for it, and the
    words that it may be."""
    return field(default=default, metadata={"help": help, "low": low, "metavar": metavar, "choices": choices})


@dataclass(frozen=True)
class Objective:
    """Base of all objectives.  A subclass is a frozen dataclass that defines `losses`; all else has defaults.

    `losses` and what it calls compute with ops, from its arguments and from fields: then a step may be recorded and replayed.  Classes of
    the library do.  A class of yours says that it does by `replayable = True` in its body; until then its steps run as they are written.
    """

    name: ClassVar[str] = ""
    second_batch: ClassVar[bool] = False  # whether batch.other is wanted: images in an order of their own
    default_for: ClassVar[tuple[str, ...]] = ()  # names of models that are trained by this one where nobody says otherwise
    needs: ClassVar[tuple[str, ...]] = ()  # what a model must have
    occasions: ClassVar[tuple[str, ...]] = ()  # words that a turn may hold beside players: what is done at some steps only
    units: ClassVar[str] = "nats"  # of the loss

    def __post_init__(self) -> None:
        for f in fields(self):
            value, low = getattr(self, f.name), f.metadata.get("low")
            if f.metadata.get("choices") and value not in f.metadata["choices"]:
                raise UsageError(f"{f.name} {value!r} is unknown; choose one of {', '.join(f.metadata['choices'])}")
            if low is not None and value is not None and not (value >= low and math.isfinite(value)):
                raise UsageError(f"{f.name} is {value}; need a number from {low} up")

    def players(self, model: Any, rng: Stream) -> Players:
        """The modules that are trained, the model first; weights of others are drawn from rng."""
        return {"model": model}

    def optimizers(self) -> dict[str, dict[str, Any]]:
        """{player: what differs from the training's optimizer}, {"critic": {"optimizer": "adam", "lr": 1e-4, "betas": (0.5, 0.9)}}; with
        "scale" instead of "lr", a learning rate as a share of the training's."""
        return {}

    def turns(self) -> Sequence[tuple[str, ...]]:
        """Who moves at which step, over and over: [("critic",), ("critic",), ("generator",)].  By default all players move together at each
        step, from the gradients at the weights before it."""
        return []

    def losses(self, players: Players, batch: Batch, rng: Stream, progress: Progress) -> tuple[dict[str, Tensor], Reports]:
        """({player: its loss ()} for at least the players of progress.turn, {name: number per image} to report)."""
        raise NotImplementedError(f"{type(self).__name__} defines no losses")

    def check(self, model: Any, labels: Any, batch_size: int) -> None:
        """Raise where the labels of the data (N, ...), or None, are none for the model: a recorded step does not look at them."""
        if labels is not None and hasattr(model, "condition"):
            model.condition(labels)

    def evaluation_batch(self, batch_size: int) -> int:
        """Images at a time in an evaluation, when training takes batch_size."""
        return 500

    def summary(self, measures: Mapping[str, float]) -> str:
        """What a printed loss is made of: "= 80.12 + 25.01"."""
        return "  ".join(f"{name} {value:.2f}" for name, value in measures.items() if name != "loss")

    def settings(self) -> dict[str, Any]:
        """{field: value}"""
        return asdict(self)

    def __call__(self, model: Any, x: Any, rng: Stream, label: Any = None, size: int | None = None) -> Terms:
        """The model's loss of a batch and its two parts, at the end of all warming up: for loops of your own.     x (N, ...)

        size    images in the data, for an objective that asks; by default those of the batch"""
        turn = ("model",)
        losses, reports = self.losses({"model": model}, Batch(x, label), rng, trained(len(x) if size is None else size, turn))
        return Terms(losses["model"], reports["reconstruction"], reports["kl"])


@dataclass(frozen=True)
class FromFunction(Objective):
    """An objective made of a function (model, x, rng) -> a loss (), or an object with a `.loss`, as elbo returns.

    For a quick try: it has no settings, is not recorded, and a run folder cannot keep it; write a class for that."""

    function: Any = None

    def losses(self, players, batch, rng, progress):
        model = players["model"]
        if batch.label is not None and hasattr(model, "condition"):
            model = model.condition(batch.label)
        terms = self.function(model, batch.x, rng)
        parts = {name: getattr(terms, name) for name in ("reconstruction", "kl") if hasattr(terms, name)}
        return {"model": getattr(terms, "loss", terms)}, parts

    def settings(self):
        raise UsageError("an objective that is a function cannot be kept in a run; write a class that derives from Objective")


def as_objective(objective: Any) -> Objective:
    """An Objective as it is, and a function as one."""
    if isinstance(objective, type):
        raise UsageError(f"the objective is the class {objective.__name__}; pass an instance, {objective.__name__}()")
    return objective if hasattr(objective, "losses") else FromFunction(objective)


def kl_scale(progress: Progress, warmup: float) -> Any:
    """KL warm-up: a factor that rises linearly from 0 to 1 over `warmup` epochs, so that the decoder learns to use z before the prior may
    switch a latent off.        S. R. Bowman et al. 2016, 3.1; C. K. Sonderby et al. 2016, 2.3"""
    return minimum(multiply(progress.epochs, 1 / warmup), 1.0) if warmup else 1.0


def weighted(weight: Any, term: Tensor) -> Tensor:
    """weight times term, and no op for a weight of 1."""
    return term if type(weight) is float and weight == 1 else term * weight


def occasionally(turns: Sequence[tuple[str, ...]], every: int, occasion: str = "penalty") -> list[tuple[str, ...]]:
    """The turns again and again, with the occasion in the first and in each `every`-th after it."""
    steps = range(math.lcm(len(turns), every))
    return [(*turns[i % len(turns)], *([occasion] if i % every == 0 else [])) for i in steps]


WARMUP = "beta rises from 0 over so many epochs"
