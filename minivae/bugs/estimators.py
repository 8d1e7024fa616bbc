"""Gradients that do not arrive, noise that is none, and data and layers that are not what they seem."""

import math
from typing import Any

import numpy as np

from .. import ops
from ..data import to_float
from ..distributions import Bernoulli
from ..engine import Tensor, gradients, no_grad, stop_gradient
from ..gradcheck import frozen, gradcheck
from ..nn import BatchNorm
from ..random import Stream
from .judges import ROUNDING, X, over_the_noise, tiny
from .mistake import Finding, Mistake, relative
from .tiny import HIDDEN, figures, fresh_model, loss_with, sprites, tested, train


class ConstantSigma(Mistake):
    """no gradient flows through sigma: a detach() too many in the sample"""

    name = "no-gradient-through-sigma"
    seen = ".data, .detach() or float() on the way from the head to the sample; ethanluoyc/pytorch-vae issue 5 takes it for right"
    caught_by = "gradcheck of the loss with its noise frozen"
    harm = "Only the KL moves sigma, to 1: every code is as blurred as the prior, and the mean must shout to be heard."
    least = 1.5

    @staticmethod
    def bug(mean, logvar, eps):
        sigma = stop_gradient(ops.exp(logvar / 2))
        return mean + sigma * eps

    @staticmethod
    def fix(mean, logvar, eps):
        sigma = ops.exp(logvar / 2)
        return mean + sigma * eps

    @staticmethod
    def check(f):
        report = gradcheck(frozen(loss_with(sample=f), tiny(), X, Stream(7)))
        worst = max(report.rows, key=lambda row: row.error)
        what = f"{worst.name} has gradient {worst.analytic:.6f}, by a complex step it is {worst.complex_step:.6f}"
        return Finding(worst.error, 1e-7, what)

    @staticmethod
    def training(f):
        return figures(train(loss_with(sample=f)))


class SampleIsConstant(Mistake):
    """z is a plain random draw: no gradient passes through it"""

    name = "sample-cuts-the-graph"
    seen = "jankrepl/deepdow pull request 106: sample() where rsample() belongs; np.random.normal(mean, sigma)"
    caught_by = "the expected gradient against that of E[e^z], which is known"
    harm = "The encoder hears the KL alone, and says nothing: every latent dies, and every image is the mean image."
    least = 8.0

    @staticmethod
    def bug(mean, logvar, eps):
        z = ops.reparameterize(mean, logvar, eps)
        return stop_gradient(z)

    @staticmethod
    def fix(mean, logvar, eps):
        z = ops.reparameterize(mean, logvar, eps)
        return z

    @staticmethod
    def check(f):
        mean, logvar = Tensor(np.array([0.3])), Tensor(np.array([-1.0]))

        def gradient(eps):
            y = ops.exp(f(mean, logvar, np.array([eps]))).sum() + (mean + logvar).sum() * 0.0
            return np.concatenate(gradients(y, [mean, logvar]))

        found = over_the_noise(gradient)
        value = math.exp(0.3 + math.exp(-1) / 2)
        right = np.array([value, value * math.exp(-1) / 2])
        what = f"the expected gradient of e^z is ({found[0]:.6f}, {found[1]:.6f}), that of its expectation ({right[0]:.6f}, {right[1]:.6f})"
        return Finding(max(relative(a, b) for a, b in zip(found, right, strict=True)), ROUNDING, what)

    @staticmethod
    def training(f):
        return figures(train(loss_with(sample=f)))


class SameNoise(Mistake):
    """the generator is seeded in every step, and draws the same noise"""

    name = "same-noise-every-step"
    seen = "a seed set inside of the training step for the sake of reproducibility; Tim-Salzmann/l4casadi issue 32"
    caught_by = "the noise of two steps is uncorrelated"
    harm = "The model learns one batch of noise by heart: with the noise that it knows it looks better than it is."
    least = 0.1

    @staticmethod
    def bug(rng, shape):
        return Stream(0).normal(shape)

    @staticmethod
    def fix(rng, shape):
        return rng.normal(shape)

    @staticmethod
    def check(f):
        rng = Stream(8)
        first, second = f(rng, 10_000), f(rng, 10_000)
        correlation = float(np.corrcoef(first, second)[0, 1])
        what = f"the correlation of the noise of two steps is {correlation:.4f}"
        return Finding(abs(correlation), 6 / math.sqrt(first.size), what)  # 6 standard errors: 2 false alarms in 10^9

    @staticmethod
    def training(f):
        def loss(model, x, rng):
            return loss_with(sample=lambda mean, logvar, eps: ops.reparameterize(mean, logvar, f(rng, eps.shape)))(model, x, rng)

        model = train(loss)
        fresh, known = tested(loss_with(), model), tested(loss, model)
        return {"nats by which known noise flatters it": fresh - known} | figures(model)


class BytesForUnit(Mistake):
    """pixels from 0 to 255 meet a likelihood of pixels from 0 to 1"""

    name = "bytes-for-unit"
    seen = "negative losses in mlpack/mlpack issue 3601 and hlamba28/UNET-TGS issue 8"
    caught_by = "a probability is at most 1"
    harm = "The loss has no least value: every pixel that is not black becomes white, and the loss goes on to minus infinity."
    least = 100.0

    @staticmethod
    def bug(images):
        return images.astype(np.float32)

    @staticmethod
    def fix(images):
        x = images.astype(np.float32)
        return x / np.float32(255)

    @staticmethod
    def check(f):
        x = f(np.array([0, 1, 128, 255], np.uint8))
        h = np.linspace(-10, 10, 81, dtype=np.float32)[:, None]
        largest = float(Bernoulli(h + 0 * x, 0).log_prob(np.broadcast_to(x, (81, 4))).data.max())
        return Finding(max(0.0, largest), 0.0, f"the largest log-probability of a pixel is {largest:.3f}")

    @staticmethod
    def training(f):
        def loss(model, x, rng):
            return loss_with()(model, f((x * 255).round()), rng)

        return figures(train(loss, epochs=1))


class BatchNormInTraining(Mistake):
    """batch normalization stays in training mode at test time"""

    name = "batch-norm-at-test"
    seen = "chrischoy/SpatioTemporalSegmentation issue 11; cvlab-stonybrook/DM-Count issue 3"
    caught_by = "an image's answer does not depend on its neighbours"
    harm = "In small batches of like images the moments are theirs and not the data's: the test loss is another model's."
    least = 4.0

    @staticmethod
    def bug(model):
        return model.train(True)

    @staticmethod
    def fix(model):
        return model.train(False)

    @staticmethod
    def check(f):
        layer = f(BatchNorm(3))
        x = Stream(9).normal((8, 3)).astype(np.float64)
        with no_grad():
            alone, among = layer(x[:2]).data, layer(x).data[:2]
        moved = float(abs(alone - among).max())
        return Finding(moved, 1e-12, f"two images move by {moved:.4f} when six others join their batch")

    @staticmethod
    def training(f):
        model = fresh_model()
        model.encoder.layers.insert(2, BatchNorm(HIDDEN))
        model = f(train(loss_with(), model=model))
        test = sprites()[1]
        x = to_float(test[np.argsort(test.sum(axis=(1, 2, 3)))])  # like beside like, as in a folder sorted by class
        rng = Stream(2)
        with no_grad():
            nats = [loss_with()(model, x[i : i + 4], rng).item() for i in range(0, len(x), 4)]
        return {"-ELBO of test images in batches of 4 (nats)": sum(nats) / len(nats)}


MISTAKES: tuple[Any, ...] = (ConstantSigma, SampleIsConstant, SameNoise, BytesForUnit, BatchNormInTraining)
