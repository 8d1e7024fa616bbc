"""What most objectives are made of: samples of q(z | x) with their KL, and the bound on log p(x) that they give.

On a GPU each of them is one kernel where q is a Gaussian, p(z) is N(0, I) and p(x | z) is a Bernoulli: there a step costs what it launches.
"""

import math
from typing import Any

from .. import ops
from ..backend import backend_of
from ..engine import Tensor, made_by, stop_gradient
from ..kernels.gpu import densities
from ..random import Stream
from .base import Value, check_event, data_of
from .bernoulli import Bernoulli
from .gaussian import Gaussian, StandardGaussian
from .kl import same_length


def samples_and_kl(q: Any, p: Any, rng: Stream, samples: int) -> tuple[Tensor, Tensor]:
    """z ~ q, and log q(z) - log p(z), the estimate of KL(q || p) by each.     -> (samples, *batch, *event), (samples, *batch)"""
    if type(q) is Gaussian and type(p) is StandardGaussian and one_kernel_serves(q.mean, q.logvar):
        same_length(q, p)
        noise = getattr(rng, "later", rng.normal)((samples, *q.shape), like=data_of(q.mean))
        value, saved = densities.sampled(q.mean.data, q.logvar.data, noise, q.event_ndim, estimate=True)

        def vjp(g: Any) -> tuple:
            return densities.sample_and_kl_vjp(densities.filled(g, value), *saved)[:2]

        return made_by("samples_and_kl", value, vjp, (q.mean, q.logvar))
    z = q.sample(rng, (samples,))
    log_p = p.log_prob(z)
    return z, q.log_prob(z) - log_p


def bound(p: Any, x: Value, kl: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """loss = mean_n log k - log sum_s p(x_n | z_sn) e^(-kl_sn), and of each image the means of -log p(x_n | z_sn) and of kl_sn.

    p     p(x | z), for k samples of z an image, or for one: then the loss is the mean of their sum, the negative ELBO
    kl    (k, N) or (N,)   -> (), (N,), (N,)

    Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", 2016, eq. 8."""
    if type(p) is Bernoulli and one_kernel_serves(p.logits, kl, data_of(x)) and not (isinstance(x, Tensor) and x.number):
        check_event("Bernoulli", x, p.event_ndim, p.logits)
        if kl.shape == p.batch_shape and kl.size:
            value, saved = densities.bernoulli_bound(p.logits.data, data_of(x), kl.data, p.event_ndim)
            return made_by("bound", value, lambda g: densities.bernoulli_bound_vjp(g, *saved), (p.logits, kl))
    log_likelihood = p.log_prob(x)
    if kl.ndim == 1:
        return (kl - log_likelihood).mean(), -log_likelihood, kl
    loss = math.log(len(kl)) - ops.logsumexp(log_likelihood - kl, axis=0).mean()
    return loss, -stop_gradient(log_likelihood).mean(axis=0), stop_gradient(kl).mean(axis=0)


def one_kernel_serves(*values: Any) -> bool:
    """Whether they are float32 on a GPU, those with a gradient Tensors."""
    return all(backend_of(data_of(v)) == "cupy" and data_of(v).dtype == "float32" for v in values) and isinstance(values[0], Tensor)
