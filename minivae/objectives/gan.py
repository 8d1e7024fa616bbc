"""Generative adversarial nets: a critic learns to tell real images from made ones, and the generator to make what it takes for real."""

from dataclasses import dataclass
from typing import Any, ClassVar

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of, stop_gradient
from ..errors import UsageError
from ..nn import evaluating
from ..penalties import gradient_penalty, r1_penalty
from .base import Objective, occasionally, setting

LOSSES = ("non_saturating", "minimax", "hinge", "least_squares", "wasserstein")
PENALTIES = ("r1", "gp", "none")
NORMS = ("none", "spectral")


@dataclass(frozen=True)
class Gan(Objective):
    """Two players' losses; D is the critic's score, large for what looks real, and means are over the batch.

        loss              the critic's                                     the generator's
        non_saturating    softplus(-D(x)) + softplus(D(G(z)))              softplus(-D(G(z)))           Goodfellow et al. 2014
        minimax           the same, minus the generator's                  -softplus(D(G(z)))           ibid., eq. 1
        hinge             max(0, 1 - D(x)) + max(0, 1 + D(G(z)))           -D(G(z))                     Lim and Ye 2017
        least_squares     (D(x) - 1)^2 / 2 + D(G(z))^2 / 2                 (D(G(z)) - 1)^2 / 2          Mao et al. 2017
        wasserstein       D(G(z)) - D(x)                                   -D(G(z))                     Arjovsky et al. 2017

    The critic's has a penalty of its gradient besides: R1, weight / 2 mean |dD/dx|^2 on real images (L. Mescheder et al. 2018), or
    WGAN-GP's weight mean (|dD/dx| - 1)^2 between real and made ones (I. Gulrajani et al. 2017); at every `penalty_every`-th step, times
    as many (T. Karras et al., "StyleGAN2", 2020, section 3).

    Both move once a step, from the gradients at the weights before it; with critic_steps n the critic alone moves n - 1 times before.
    The model makes its own opponent, model.critic(rng, pack, spectral).  It is trained at the training's learning rate times lr_scale.

    Reports: the shares of real and of made images that the critic takes for what they are, 1/2 where it cannot tell.
    """

    name: ClassVar[str] = "gan"
    default_for: ClassVar[tuple[str, ...]] = ("gan",)
    needs: ClassVar[tuple[str, ...]] = ("critic", "decode")
    occasions: ClassVar[tuple[str, ...]] = ("penalty",)
    units: ClassVar[str] = ""

    loss: str = setting("non_saturating", "what the players of a gan minimise", choices=LOSSES)
    penalty: str = setting("r1", "of the critic's gradient", choices=PENALTIES)
    penalty_weight: float = setting(1.0, "weight of the penalty", 0)
    penalty_every: int = setting(4, "steps from one penalty to the next, which is weighted by as many", 1, "STEPS")
    critic_norm: str = setting("none", "what holds the critic's weights", choices=NORMS)
    critic_steps: int = setting(1, "steps of the critic for each of the generator", 1, "STEPS")
    pack: int = setting(1, "images that the critic sees at a time", 1, "IMAGES")
    ema: float = setting(0.999, "of the average of the generator's weights, how much stays at each step", 0)
    lr_scale: float = setting(1.0, "the players' learning rates, as a share of the training's", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ema < 1 or not self.lr_scale > 0:
            raise UsageError(f"ema is {self.ema}, lr_scale is {self.lr_scale}; need 0 <= ema < 1 and a positive scale")

    def players(self, model, rng):
        return {"generator": model, "critic": model.critic(rng.split("weights of the critic"), self.pack, self.critic_norm == "spectral")}

    def optimizers(self):
        rule = {"optimizer": "adam", "betas": (0.0, 0.9), "scale": self.lr_scale}
        return {"generator": rule, "critic": rule}

    def turns(self):
        turns = [*[("critic",)] * (self.critic_steps - 1), ("generator", "critic")]
        return turns if self.penalty == "none" else occasionally(turns, self.penalty_every)

    def losses(self, players, batch, rng, progress):
        generator, critic, found = players["generator"], players["critic"], {}
        generator.move_average(self.ema)
        made = generator.decode(generator.prior.sample(rng, len(batch.x), like=batch.x)).mean
        real, fake = critic(packed(batch.x, self.pack)), critic(packed(made, self.pack))  # (N / pack, 1)
        if "generator" in progress.turn:
            found["generator"] = self.fools(fake)
        if "critic" in progress.turn:
            found["critic"] = self.tells(real, fake)
        if "penalty" in progress.turn:
            found["critic"] = found["critic"] + self.slope(critic, batch.x, made, rng)
        middle = {"least_squares": 0.5, "wasserstein": None}.get(self.loss, 0.0)
        right = constant_of(told, real.data, fake.data, middle)
        return found, {"critic_real": right[0], "critic_made": right[1]}

    def tells(self, real: Any, fake: Any) -> Any:
        """The critic's loss, without its penalty.     scores (N, 1) -> ()"""
        if self.loss in ("non_saturating", "minimax"):
            return ops.softplus(-real).mean() + ops.softplus(fake).mean()
        if self.loss == "hinge":
            return ops.relu(1.0 - real).mean() + ops.relu(1.0 + fake).mean()
        if self.loss == "least_squares":
            return ((real - 1.0).square().mean() + fake.square().mean()) * 0.5
        return fake.mean() - real.mean()

    def fools(self, fake: Any) -> Any:
        """The generator's loss.     scores (N, 1) -> ()"""
        if self.loss == "non_saturating":
            return ops.softplus(-fake).mean()
        if self.loss == "minimax":
            return -ops.softplus(fake).mean()
        return (fake - 1.0).square().mean() * 0.5 if self.loss == "least_squares" else -fake.mean()

    def slope(self, critic: Any, x: Any, made: Any, rng: Any) -> Any:
        """The penalty, with the weight that makes up for the steps without.     -> ()"""
        weight = self.penalty_weight * self.penalty_every
        x, made = packed(x, self.pack), packed(stop_gradient(made), self.pack)
        with evaluating(critic):  # a spectral norm stays as it is: D must be one function at all points that are asked for
            if self.penalty == "r1":
                return r1_penalty(critic, x, weight)
            u = rng.uniform((len(x), *[1] * (x.ndim - 1)), like=x.data if isinstance(x, Tensor) else x)
            return gradient_penalty(critic, ops.multiply(x, u) + ops.multiply(made, constant_of(complement, u)), weight)

    def summary(self, measures):
        right = f"critic right on {measures['critic_real']:.2f} of real, {measures['critic_made']:.2f} of made images"
        norms = [f"{measures[name]:.2g}" for name in ("gradient_norm", "critic_gradient_norm") if name in measures]
        return f"{right}{f', gradient norms {norms[0]} and {norms[1]}' if len(norms) == 2 else ''} "


def packed(x: Any, pack: int) -> Any:
    """Groups of `pack` images, one behind the other in the last axis; the last group is filled up with the first images.

    A critic that sees several images at once sees whether they are all alike: Z. Lin et al., "PacGAN", 2018.
    (N, ..., C) -> (N / pack, ..., pack C)"""
    if pack == 1:
        return x
    n = len(x)
    groups = -(-n // pack)
    parts = []
    for i in range(pack):
        first, missing = x[i * groups : (i + 1) * groups], max(0, (i + 1) * groups - max(n, i * groups))
        parts.append(first if not missing else ops.concatenate([first, x[:missing]]) if len(first) else x[:missing])
    return ops.concatenate(parts, axis=-1)


def complement(u: Any) -> Any:
    """1 - u"""
    return 1 - u


def told(real: Any, fake: Any, middle: float | None) -> Any:
    """The shares of real scores above the middle and of made ones below; without one, above and below the mean of all.     -> (2,)"""
    module = xp(real)
    middle = (real.mean() + fake.mean()) / 2 if middle is None else middle
    return module.stack([(real > middle).mean(), (fake < middle).mean()]).astype(real.dtype)
