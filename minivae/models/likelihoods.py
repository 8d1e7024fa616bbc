"""p(x | z) by its name: how many numbers of each pixel a decoder ends in, and the distribution that they are parameters of."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import ops
from ..distributions import Bernoulli, BetaBinomial, ContinuousBernoulli, DiscretizedLogistic, Gaussian, Laplace
from ..distributions.levels import LEVELS

# log s of a discretized logistic is kept above this: at 1/16 of a level, all but 2 e^-8 of the probability is in one
NARROWEST = -math.log(16 * (LEVELS - 1))


class Likelihood(NamedTuple):
    of: Callable[[Any, Any, int], Any]  # (what the decoder gives, the model's log_scale, axes of an image) -> a distribution
    numbers: int = 1  # of each pixel
    has_scale: bool = False  # whether the model learns one scale for all pixels


def beta_binomial(h: Any, log_scale: Any, event_ndim: int) -> BetaBinomial:
    log_alpha, log_beta = ops.split(h, 2)
    return BetaBinomial(log_alpha, log_beta, event_ndim)


def discretized_logistic(h: Any, log_scale: Any, event_ndim: int) -> DiscretizedLogistic:
    mean, log_s = ops.split(h, 2)
    return DiscretizedLogistic(mean, ops.maximum(log_s, NARROWEST), event_ndim)


LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Likelihood(lambda h, log_scale, event_ndim: Bernoulli(h, event_ndim)),
    "continuous_bernoulli": Likelihood(lambda h, log_scale, event_ndim: ContinuousBernoulli(h, event_ndim)),
    "gaussian": Likelihood(lambda h, log_scale, event_ndim: Gaussian(h, log_scale * 2.0, event_ndim), has_scale=True),
    "laplace": Likelihood(lambda h, log_scale, event_ndim: Laplace(h, log_scale, event_ndim), has_scale=True),
    "beta_binomial": Likelihood(beta_binomial, 2),
    "discretized_logistic": Likelihood(discretized_logistic, 2),
}
