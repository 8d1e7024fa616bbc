"""Numerical integrals: the independent judge of every closed form.

    integrate             adaptive Gauss-Kronrod over an interval
    expectation           E_q[f] element by element, for any density with a log_prob
    kl_by_integration     KL(q || p) for any two
    hermite_expectation   E_q[f] under a Gaussian of one to a few dimensions, by Gauss-Hermite
    hermite_rule          its points and weights
    log_marginal          log p(x) and p(z | x) of a decoder with one or two latents, on a grid
    posterior_kl          KL(q(z | x) || p(z | x)) on that grid

NumPy only, in float64, on the CPU.
"""

from .integrals import Integral, expectation, hermite_expectation, hermite_rule, integrate, kl_by_integration
from .latents import Marginal, log_marginal, posterior_kl

__all__ = [
    "Integral",
    "Marginal",
    "expectation",
    "hermite_expectation",
    "hermite_rule",
    "integrate",
    "kl_by_integration",
    "log_marginal",
    "posterior_kl",
]
