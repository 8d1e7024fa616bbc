"""The beta-binomial: a pixel of n + 1 levels, of which a coin is tossed n times whose own probability is drawn from a beta."""

from typing import Any

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of, stop_gradient
from .base import Value, broadcast, check_event
from .levels import LEVELS, Levels


def turning_point(log_alpha: Any, log_beta: Any, n: int) -> Any:
    """The k at which p(k + 1) = p(k), (n (a - 1) + 1 - b) / (a + b - 2), rounded up and kept within 0 to n."""
    module = xp(log_alpha)
    a, b = module.exp(log_alpha.real), module.exp(log_beta.real)
    slope = a + b - 2
    k = (n * (a - 1) + 1 - b) / module.where(slope == 0, 1, slope)
    return module.clip(module.ceil(k), 0, n)


class BetaBinomial(Levels):
    """p(k) = C(n, k) B(k + a, n - k + b) / B(a, b), x = k / n, independent per element; n = levels - 1, a = e^log_alpha, b = e^log_beta.

    Wide, narrow, at an end, or at both ends at once, as strokes are.  At log_alpha = log_beta = 0 all levels are equally likely.
    For pixels: J. Townsend, T. Bird and D. Barber, "Practical lossless compression with latent variables using bits back coding", 2019.

    log_alpha, log_beta    (*batch, *event);  levels    256 for bytes: x are multiples of 1 / 255
    """

    parameters = ("log_alpha", "log_beta")

    def __init__(self, log_alpha: Value, log_beta: Value, event_ndim: int = 1, levels: int = LEVELS):
        self.log_alpha, self.log_beta, self.event_ndim, self.levels = log_alpha, log_beta, event_ndim, levels
        self.check_levels()
        broadcast("BetaBinomial", log_alpha=log_alpha, log_beta=log_beta)

    def log_prob(self, x: Value) -> Tensor:
        """sum log p(n x).     x (*batch, *event), multiples of 1 / n -> (*batch)"""
        check_event("BetaBinomial", x, self.event_ndim, self.log_alpha, self.log_beta)
        return ops.beta_binomial_log_prob(self.log_alpha, self.log_beta, self.level(x).data, n=self.n, event_ndim=self.event_ndim)

    def log_prob_of_level(self, k: Value) -> Tensor:
        return ops.beta_binomial_log_prob(self.log_alpha, self.log_beta, k, n=self.n, event_ndim=0)

    @property
    def mean(self) -> Tensor:
        """E[x] = a / (a + b).     -> (*batch, *event)"""
        return ops.sigmoid(ops.subtract(self.log_alpha, self.log_beta))

    @property
    def mode(self) -> Tensor:
        """The likeliest level, over n, a constant: an end, or beside the point where p(k + 1) / p(k) passes 1."""
        a, b = (stop_gradient(ops.broadcast_to(p, self.shape)).data for p in (self.log_alpha, self.log_beta))
        turn = constant_of(turning_point, a, b, self.n).data
        return self.largest([self.constant_level(0), turn, self.constant_level(self.n)])

    def terms(self) -> "BetaBinomial":
        return BetaBinomial(self.log_alpha, self.log_beta, 0, self.levels)
