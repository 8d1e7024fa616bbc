"""Sums that should be means, means that should be sums, weights that never arrive, and importance weights."""

import math
from itertools import pairwise
from typing import Any

import numpy as np

from .. import ops
from ..distributions import Bernoulli
from ..engine import no_grad, stop_gradient
from ..random import Stream
from .densities import WrongKl
from .judges import ROUNDING, X, is_the_elbo, log_weights_integrate, tiny
from .mistake import Finding, Mistake, relative
from .tiny import BATCH, EPOCHS, TRAIN, figures, loss_with, tested, train


class PixelMean(Mistake):
    """the reconstruction is a mean over pixels, the KL a sum over latents"""

    name = "pixel-mean"
    seen = "a lecture's code; AntixK/PyTorch-VAE issues 11 and 56 ask about the weight that makes up for it"
    caught_by = "the identity log p(x) - ELBO = KL(q || p(z|x))"
    harm = "beta is the number of pixels, 256 here: no code is worth its price, and every latent dies."
    least = 8.0

    @staticmethod
    def bug(logits, x):
        return Bernoulli(logits, 0).log_prob(x).mean(axis=(1, 2, 3))

    @staticmethod
    def fix(logits, x):
        return Bernoulli(logits, 0).log_prob(x).sum(axis=(1, 2, 3))

    @staticmethod
    def check(f):
        return is_the_elbo(loss_with(log_px=lambda p, x: f(p.logits, x)))

    @staticmethod
    def training(f):
        return figures(train(loss_with(log_px=lambda p, x: f(p.logits, x))))


class KlMeanOverLatents(WrongKl):
    """the KL is a mean over latents, the reconstruction a sum over pixels"""

    name = "kl-mean-over-latents"
    seen = "podgorskiy/VAE issue 1; the code in rstudio/keras3 issue 359"
    caught_by = "integration: the KL of independent latents adds up"
    harm = "beta is 1/6 here: the codes are finer than they are worth, and the bound is worse for it."
    least = 3.0

    @staticmethod
    def bug(mean, logvar):
        kl = mean**2 + ops.exp(logvar) - logvar - 1
        return kl.mean(axis=1) / 2


class AveragedTwice(Mistake):
    """the loss is a mean over the batch, divided by its size once more"""

    name = "averaged-twice"
    seen = "zfjsail/gae-pytorch issue 3: the KL is a mean over nodes, divided by their number (there for a weight, says its author)"
    caught_by = "the loss does not depend on how a batch is split"
    harm = "The learning rate of SGD is 100 times smaller than it says.  Adam hides it; clipping and weight decay do not."
    least = 50.0

    @staticmethod
    def bug(log_px, divergence):
        loss = (divergence - log_px).mean()
        return loss / len(log_px)

    @staticmethod
    def fix(log_px, divergence):
        loss = (divergence - log_px).mean()
        return loss

    @staticmethod
    def check(f):
        log_px, divergence = -80 + 9 * Stream(5).normal(12, like=np.zeros(0)), Stream(6).uniform(12, like=np.zeros(0))
        whole = f(stop_gradient(log_px), stop_gradient(divergence)).item()
        parts = [f(stop_gradient(log_px[i : i + 4]), stop_gradient(divergence[i : i + 4])).item() for i in (0, 4, 8)]
        what = f"the loss of 12 images is {whole:.4f}, the mean over three batches of 4 of them is {sum(parts) / 3:.4f}"
        return Finding(relative(whole, sum(parts) / 3), ROUNDING, what)

    @staticmethod
    def training(f):
        return figures(train(loss_with(total=f), sgd=2e-3))


class WarmupNeverEnds(Mistake):
    """the KL's warm-up counts the steps of the epoch: beta never stays 1"""

    name = "warmup-never-ends"
    seen = "valdersoul/bn-vae issue 1: the weight is set back in every step of the epoch that restarts it"
    caught_by = "limits: the weight rises from 0, and is 1 after the warm-up"
    harm = "beta is 1/2 on average and falls to 0 every epoch: the codes are finer than they are worth."
    least = 0.3

    @staticmethod
    def bug(step, steps_per_epoch, warmup):
        step = step % steps_per_epoch
        return min(step / warmup, 1.0)

    @staticmethod
    def fix(step, steps_per_epoch, warmup):
        return min(step / warmup, 1.0)

    @staticmethod
    def check(f):
        weights = [f(step, 20, 20) for step in range(100)]
        falls = max(a - b for a, b in pairwise(weights))
        size = max(abs(weights[0]), falls, *(1 - w for w in weights[20:]))
        return Finding(
            size, 0.0, f"the weight after 20 of 20 steps is {weights[20]:.2f}, after 99 {weights[99]:.2f}; it falls by {falls:.2f}"
        )

    @staticmethod
    def training(f):
        steps = iter(range(TRAIN // BATCH * EPOCHS))

        def total(log_px, divergence):
            return (f(next(steps), TRAIN // BATCH, TRAIN // BATCH) * divergence - log_px).mean()

        return figures(train(loss_with(total=total)))


class LogKForgotten(Mistake):
    """the importance-weighted bound lacks - log k"""

    name = "log-k-forgotten"
    seen = "the first draft in YosefLab/scVI-dev issue 8; the second, in scverse/scvi-tools issue 13, has it"
    caught_by = "identity: the mean of k equal weights is that weight"
    harm = "Training does not notice, since the gradient is the same.  The bound that is printed is log 50 nats too good."
    least = 3.9

    @staticmethod
    def bug(log_weights):
        return ops.logsumexp(log_weights, axis=0)

    @staticmethod
    def fix(log_weights):
        log_k = math.log(len(log_weights))
        return ops.logsumexp(log_weights, axis=0) - log_k

    @staticmethod
    def check(f):
        found = [float(f(stop_gradient(np.full((k, 1), -90.0))).data[0]) for k in (1, 5, 50)]
        what = f"k equal weights of e^-90: the bound is {found[0]:.4f} for k = 1, {found[1]:.4f} for 5, {found[2]:.4f} for 50"
        return Finding(max(relative(a, -90.0) for a in found), 1e-12, what)

    @staticmethod
    def training(f):
        def printed(bound):
            return tested(lambda model, x, rng: -bound(log_weights(model, x, rng, 50, LogWeightsUpsideDown.fix)).mean(), model)

        model = train(importance_loss(LogWeightsUpsideDown.fix))
        off = abs(printed(f) - printed(LogKForgotten.fix))
        return {"nats by which the printed bound is off": off, "printed -log p(x) (nats)": printed(f)} | figures(model)


def log_weights(model, x, rng, k, log_weight):
    """log w of k samples an image, made by log_weight(log p(x|z), log p(z), log q(z|x)).     -> (k, N)"""
    q = model.encode(x)
    z = q.sample(rng, (k,))
    return log_weight(model.decode(z).log_prob(x), model.prior.log_prob(z), q.log_prob(z))


def importance_loss(log_weight, k=5):
    """The importance-weighted bound of k samples, to be trained with."""
    return lambda model, x, rng: -LogKForgotten.fix(log_weights(model, x, rng, k, log_weight)).mean()


class LogWeightsUpsideDown(Mistake):
    """the importance weight is p(x|z) q(z|x) / p(z), for p(z) / q(z|x)"""

    name = "weights-upside-down"
    seen = "AntixK/PyTorch-VAE, models/iwae.py: the weights are the softmax of the losses, so that the worst sample has the largest"
    caught_by = "integration: the mean of the weights is p(x)"
    harm = "The bound is none: it pays for a posterior far from the prior, and training goes there without end."
    least = 1000.0

    @staticmethod
    def bug(log_px, log_prior, log_q):
        return log_px + (log_q - log_prior)

    @staticmethod
    def fix(log_px, log_prior, log_q):
        return log_px + (log_prior - log_q)

    check = staticmethod(log_weights_integrate)

    @staticmethod
    def training(f):
        return figures(train(importance_loss(f), epochs=5))


class MeanForSample(Mistake):
    """the 'ELBO' is evaluated at the posterior's mean, without drawing z"""

    name = "mean-for-sample"
    seen = "pytorch/examples pull request 226: the mean in evaluation, until pull request 419; AntixK/PyTorch-VAE issue 62 asks"
    caught_by = "the identity log p(x) - ELBO = KL(q || p(z|x))"
    harm = "The number that is printed is no bound: it is nats better than the ELBO of the same model."
    least = 1.0

    @staticmethod
    def bug(mean, logvar, eps):
        return mean

    @staticmethod
    def fix(mean, logvar, eps):
        return ops.reparameterize(mean, logvar, eps)

    @staticmethod
    def check(f):
        return is_the_elbo(loss_with(sample=f))

    @staticmethod
    def training(f):
        model = train(loss_with())
        printed = tested(loss_with(sample=f), model)
        right = tested(loss_with(), model)
        return {"nats by which the printed ELBO is off": abs(printed - right), "printed -ELBO (nats)": printed} | figures(model)


class SkipConnection(Mistake):
    """a skip connection hands the decoder the image that it is to explain"""

    name = "decoder-sees-the-answer"
    seen = "nv-tlabs/LION issue 82; Virtsionis/torch-nilm issue 13; a label, or a mask, that is computed from the target"
    caught_by = "p(x|z), summed over all images, is 1"
    harm = "The training loss is splendid and the latents carry nothing: without the answer there is nothing to decode from."
    least = 20.0

    @staticmethod
    def bug(logits, x, gain):
        return Bernoulli(logits + gain * (x - 0.5), 3)

    @staticmethod
    def fix(logits, x, gain):
        return Bernoulli(logits, 3)

    @staticmethod
    def check(f):
        images = np.indices((2, 2, 2, 2)).reshape(4, 16).T.reshape(16, *X.shape[1:]).astype(np.float64)
        with no_grad():
            logits = tiny().decode(np.full((16, 1), 0.3)).logits
            total = float(np.exp(f(logits, images, 2.0).log_prob(images).data).sum())
        return Finding(relative(total, 1.0), ROUNDING, f"p(x|z) of all 16 images of four pixels sums to {total:.6f}")

    @staticmethod
    def training(f):
        loss = loss_with(log_px=lambda p, x: f(p.logits, x, 8.0).log_prob(x))
        model = train(loss)
        return figures(model) | {"-ELBO as trained (nats)": tested(loss, model)}


MISTAKES: tuple[Any, ...] = (
    PixelMean,
    KlMeanOverLatents,
    AveragedTwice,
    WarmupNeverEnds,
    LogKForgotten,
    LogWeightsUpsideDown,
    MeanForSample,
    SkipConnection,
)
