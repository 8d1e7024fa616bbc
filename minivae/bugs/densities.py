"""Formulas that are nearly right: divergences and likelihoods."""

import functools
import math
from typing import Any

import numpy as np

from .. import ops
from ..data import to_float
from ..distributions import Bernoulli, Gaussian
from ..engine import no_grad, stop_gradient
from ..quadrature import expectation
from ..random import Stream
from .judges import LOGVAR, MEAN, ROUNDING, is_the_kl, over_the_noise
from .mistake import Finding, Mistake, relative
from .tiny import figures, fresh_model, loss_with, sprites, tested, train


class SigmaIsExpLogvar(Mistake):
    """z is drawn with sigma = exp(logvar); the KL has exp(logvar / 2)"""

    name = "sigma-is-exp-logvar"
    seen = "DeZero, examples/vae.py; keras-team/keras pull request 9972; fchollet/deep-learning-with-python-notebooks issue 212"
    caught_by = "integration: variance of z against that of the density"
    harm = "The encoder is charged for one posterior and draws from another: the bound is worse, with any number of samples."
    least = 0.5

    @staticmethod
    def bug(mean, logvar, eps):
        return mean + ops.exp(logvar) * eps

    @staticmethod
    def fix(mean, logvar, eps):
        return mean + ops.exp(logvar / 2) * eps

    @staticmethod
    def check(f):
        mean, logvar = np.array([0.5]), np.array([-1.0])
        found = float(over_the_noise(lambda eps: (f(mean, stop_gradient(logvar), eps).data - mean) ** 2)[0])
        right = float(expectation(Gaussian(mean, logvar), lambda z: (z - mean) ** 2)[0])
        return Finding(relative(found, right), ROUNDING, f"the variance of z is {found:.6f}, that of the density in the KL {right:.6f}")

    @staticmethod
    def training(f):
        return figures(train(loss_with(sample=f)))


@functools.cache  # the right divergence is that of several mistakes
def trained_with(divergence):
    return figures(train(loss_with(divergence=divergence)))


class WrongKl(Mistake):
    """a mistake in KL(N(mean, sigma^2) || N(0, I))"""

    caught_by = "integration: the KL is the integral of q (log q - log p)"

    @staticmethod
    def fix(mean, logvar):
        kl = mean**2 + ops.exp(logvar) - logvar - 1
        return kl.sum(axis=1) / 2

    @staticmethod
    def check(f):
        return is_the_kl(lambda mean, logvar: f(stop_gradient(mean), stop_gradient(logvar)))

    @staticmethod
    def training(f):
        return trained_with(f)


class KlWithoutHalf(WrongKl):
    """the KL divergence lacks its factor 1/2"""

    name = "kl-without-half"
    seen = "a lecture of the five that docs/slides.md reads; SupaeroDataScience/deep-learning pull request 6 mends one"
    harm = "beta is 2 without anybody having said so: the codes are poorer and so is the bound."
    least = 0.5

    @staticmethod
    def bug(mean, logvar):
        kl = mean**2 + ops.exp(logvar) - logvar - 1
        return kl.sum(axis=1)


class LogSigmaForLogVariance(WrongKl):
    """the KL divergence has log sigma where log sigma^2 belongs"""

    name = "log-sigma-for-log-variance"
    seen = "the same lecture of docs/slides.md; FluxML/model-zoo issue 73 has (log sigma)^2 for log sigma^2"
    caught_by = "a divergence is never negative"
    harm = "The least KL is at sigma = 0.71: idle latents rest there, and the prior that is sampled from is wider than any code."
    least = 0.2

    @staticmethod
    def bug(mean, logvar):
        kl = mean**2 + ops.exp(logvar) - logvar / 2 - 1
        return kl.sum(axis=1) / 2

    @staticmethod
    def check(f):
        logvar = np.linspace(-3, 3, 6001)[:, None]
        values = f(stop_gradient(0 * logvar), stop_gradient(logvar)).data
        least = int(values.argmin())
        what = f"the least KL is {values[least]:.4f}, at sigma = {math.exp(logvar[least, 0] / 2):.4f}"
        return Finding(max(0.0, -float(values[least])), 1e-15, what)

    @staticmethod
    def training(f):
        model = train(loss_with(divergence=f), model=fresh_model(latent=16))
        sigma = model.encode(to_float(sprites()[1])).sigma.data.mean(axis=0)
        return {"1 - sigma of the idlest of 16 latents": 1 - float(sigma.max())} | figures(model)


class ReversedKl(WrongKl):
    """KL(p || q) stands where KL(q || p) belongs"""

    name = "reversed-kl"
    seen = "kumar-shridhar/PyTorch-BayesianCNN issue 28; google-deepmind/rlax issue 14; PyTorch's kl_div(input, target) is the other KL"
    harm = "A narrow posterior costs 1 / sigma^2 instead of log 1 / sigma: every code is blurred, and the bound is lost."
    least = 5.0

    @staticmethod
    def bug(mean, logvar):
        kl = (1 + mean**2) / ops.exp(logvar) + logvar - 1
        return kl.sum(axis=1) / 2


class SignOfTheRatio(Mistake):
    """the sampled KL is log p(z) - log q(z): the ratio is upside down"""

    name = "sign-of-the-ratio"
    seen = "FluxML/model-zoo pull request 147; a KL that is printed negative in AntixK/PyTorch-VAE issue 68"
    caught_by = "expectation over the noise against the integral of q (log q - log p)"
    harm = "Training makes the divergence as large as it can, and is paid for it: the loss falls, and there is no bottom."
    least = 1000.0

    @staticmethod
    def bug(z, log_q, log_p):
        return log_p - log_q

    @staticmethod
    def fix(z, log_q, log_p):
        return log_q - log_p

    @staticmethod
    def check(f):
        q, p = Gaussian(MEAN[:, :1], LOGVAR[:, :1]), Gaussian(np.zeros((2, 1)), np.zeros((2, 1)))

        def at(z):
            return f(z, q.log_prob(z), p.log_prob(z)).data

        with no_grad():
            found = over_the_noise(lambda eps: at(MEAN[:, :1] + np.exp(LOGVAR[:, :1] / 2) * eps))
        right = expectation(q, lambda z: Gaussian(q.mean, q.logvar, 0).log_prob(z).data - Gaussian(p.mean, p.logvar, 0).log_prob(z).data)
        what = f"its expectation is {found[0]:.6f}, the integral of q (log q - log p) is {right[0, 0]:.6f}"
        return Finding(max(relative(a, b) for a, b in zip(found, right[:, 0], strict=True)), ROUNDING, what)

    @staticmethod
    def training(f):
        def loss(model, x, rng):
            q = model.encode(x)
            z = q.sample(rng)
            return (f(z, q.log_prob(z), model.prior.log_prob(z)) - model.decode(z).log_prob(x)).mean()

        return figures(train(loss, epochs=5))


class SigmoidTwice(Mistake):
    """probabilities are passed where logits belong: the sigmoid is taken twice"""

    name = "sigmoid-twice"
    seen = "Turoad/lanedet issue 32; itakurah/focal-loss-pytorch pull request 5: a sigmoid, and a cross-entropy 'with logits' after it"
    caught_by = "limits: a black pixel that the decoder is sure of costs nothing"
    harm = "No pixel is ever darker than 1/2 or lighter than 0.73: the loss has a floor of 0.69 nats for each of 256 pixels."
    least = 100.0

    @staticmethod
    def bug(h, x):
        return Bernoulli(ops.sigmoid(h), 3).log_prob(x)

    @staticmethod
    def fix(h, x):
        return Bernoulli(h, 3).log_prob(x)

    @staticmethod
    def check(f):
        black, white = (float(-f(np.full((1, 1, 1, 1), h), np.full((1, 1, 1, 1), x)).item()) for h, x in ((-40.0, 0.0), (40.0, 1.0)))
        what = f"a black pixel at h = -40 costs {black:.4f} nats, a white one at h = 40 costs {white:.4f}"
        return Finding(max(black, white), 1e-12, what)

    @staticmethod
    def training(f):
        loss = loss_with(log_px=lambda p, x: f(p.logits, x))
        return {"-ELBO of test images, as trained (nats)": tested(loss, train(loss))}


class LogOfRounded(Mistake):
    """log(1 - sigmoid(h)) as it stands; the sigmoid rounds to 1"""

    name = "log-of-a-rounded-one"
    seen = "hwalsuklee/tensorflow-mnist-VAE issue 4; huggingface/candle issue 2561"
    caught_by = "comparison with float64's log-add-exp at logits up to 100"
    harm = "The first pixel that the decoder is sure of and wrong about makes the loss infinite; its gradient is NaN, then all weights are."
    least = 1.0

    @staticmethod
    def bug(h, x):
        p = ops.sigmoid(h)
        log_p = x * ops.log(p) + (1 - x) * ops.log(1 - p)
        return log_p.sum(axis=(1, 2, 3))

    @staticmethod
    def fix(h, x):
        log_p = x * h - ops.softplus(h)
        return log_p.sum(axis=(1, 2, 3))

    @staticmethod
    def check(f):
        h = np.array([-100, -20, -1, 0, 1, 20, 100] * 2, np.float32)
        x = np.repeat(np.array([0, 1], np.float32), 7)
        with np.errstate(all="ignore"):
            found = f(stop_gradient(h.reshape(-1, 1, 1, 1)), x.reshape(-1, 1, 1, 1)).data.astype(np.float64)
        right = x * h.astype(np.float64) - np.logaddexp(0, h.astype(np.float64))
        errors = [relative(a, b) for a, b in zip(found, right, strict=True)]
        worst = int(np.argmax(errors))
        what = f"log p(x = {x[worst]:.0f}) at h = {h[worst]:.0f} is {found[worst]:.4g}; it is {right[worst]:.4g}"
        return Finding(max(errors), 1e-6, what)  # a few roundings of float32

    @staticmethod
    def training(f):
        model = fresh_model()
        model.named_parameters()["decoder.layers.1.b"].data[...] = 20.0  # a decoder that begins by being sure that every pixel is white
        with np.errstate(all="ignore"):
            loss = loss_with(log_px=lambda p, x: f(p.logits, x))
            train(loss, model=model)
        lost = [float(not np.isfinite(p.data).all()) for p in model.parameters()]
        return {"share of weights' arrays that hold a NaN": sum(lost) / len(lost)}


class UnsquaredNorm(Mistake):
    """the reconstruction loss is the norm of the error and not its square"""

    name = "unsquared-norm"
    seen = "a lecture of the five that docs/slides.md reads: 'reconstruction loss = ||x - x^||_2'"
    caught_by = "independence: log-likelihoods of two halves of an image add up"
    harm = "The gradient has length 1 however large the error: against a KL in nats that pays for hardly any latent."
    least = 3.0

    @staticmethod
    def bug(error, log_sigma):
        square = (error * error).sum(axis=(1, 2, 3))
        return -ops.sqrt(square)

    @staticmethod
    def fix(error, log_sigma):
        density = Gaussian(0.0, log_sigma * 2, 3)
        return density.log_prob(error)

    @staticmethod
    def check(f):
        error, log_sigma = Stream(4).normal((1, 4, 4, 1), like=np.zeros(0)), np.zeros((1, 1, 1, 1)) - 0.3
        sigma = np.broadcast_to(log_sigma, error.shape)
        whole, top, bottom = (f(stop_gradient(error[:, part]), sigma[:, part]).item() for part in (slice(None), slice(2), slice(2, 4)))
        what = f"the log-likelihood of an image is {whole:.6f}, those of its halves add up to {top + bottom:.6f}"
        return Finding(relative(whole, top + bottom), ROUNDING, what)

    @staticmethod
    def training(f):
        model = fresh_model(likelihood="gaussian")
        train(loss_with(log_px=lambda p, x: f(p.mean - x, p.logvar * 0.5 + np.zeros_like(x))), model=model)
        x = to_float(sprites()[1])
        error = float(((model.reconstruct(x) - x) ** 2).sum(axis=(1, 2, 3)).mean())
        return {"squared error of a test image": error, "active latents": figures(model)["active latents"]}


MISTAKES: tuple[Any, ...] = (
    SigmaIsExpLogvar,
    KlWithoutHalf,
    LogSigmaForLogVariance,
    ReversedKl,
    SignOfTheRatio,
    SigmoidTwice,
    LogOfRounded,
    UnsquaredNorm,
)
