"""Probability distributions over Tensors: log_prob, sample by reparameterization, mean, mode, entropy, and KL by registered pairs.

Everything is in nats.  Continuous samples are differentiable functions of the parameters and of noise that has none (the
reparameterization trick); samples of Bernoulli, Categorical and of pixels of 256 levels are
constants.
"""

from . import closed_forms as closed_forms
from .autoregressive import Autoregressive
from .base import Distribution
from .bernoulli import Bernoulli, ContinuousBernoulli
from .beta_binomial import BetaBinomial
from .bound import bound, samples_and_kl
from .categorical import Categorical
from .delta import Delta, Flat
from .discretized_logistic import DiscretizedLogistic
from .flows import Coupling, Flow, Planar
from .gaussian import Gaussian, StandardGaussian
from .kl import Estimate, kl, kl_at, kl_monte_carlo, kl_terms, kl_terms_at, register_kl, register_kl_at, sample_and_kl
from .laplace import Laplace
from .mixture import GaussianMixture, WeightedMixture
from .noisy_levels import NoisyLevels, level_moments

__all__ = [
    "Autoregressive",
    "Bernoulli",
    "BetaBinomial",
    "Categorical",
    "ContinuousBernoulli",
    "Coupling",
    "Delta",
    "DiscretizedLogistic",
    "Distribution",
    "Estimate",
    "Flat",
    "Flow",
    "Gaussian",
    "GaussianMixture",
    "Laplace",
    "NoisyLevels",
    "Planar",
    "StandardGaussian",
    "WeightedMixture",
    "bound",
    "kl",
    "kl_at",
    "kl_monte_carlo",
    "kl_terms",
    "kl_terms_at",
    "level_moments",
    "register_kl",
    "register_kl_at",
    "sample_and_kl",
    "samples_and_kl",
]
