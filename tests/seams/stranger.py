"""What a stranger writes: a model of a dozen lines, an objective, an op, a distribution, a GAN."""

from dataclasses import dataclass

import numpy as np

import minivae as mv
from minivae import distributions, nn, objectives, ops


class Mine(nn.Module):
    size, latent = 48, 2

    def __init__(self, rng):
        self.net, self.back = nn.Dense(self.size, 2 * self.latent, rng), nn.Dense(self.latent, self.size, rng)
        self.prior = distributions.StandardGaussian(self.latent)

    def encode(self, x):
        return distributions.Gaussian(*ops.split(self.net(x.reshape(len(x), self.size)), 2))

    def decode(self, z):
        return distributions.Bernoulli(ops.reshape(self.back(z), (*z.shape[:-1], 4, 4, 3)), event_ndim=3)


class Heavy(Mine):
    """With tails: a Laplace posterior and prior."""

    def __init__(self, rng):
        super().__init__(rng)
        self.prior = distributions.Laplace(np.zeros(self.latent, np.float32), np.zeros(self.latent, np.float32))

    def encode(self, x):
        return distributions.Laplace(*ops.split(self.net(x.reshape(len(x), self.size)), 2))


class Logistic:
    """A distribution of a stranger's: log_prob, sample and mean are all there is, and no KL has a closed form."""

    def __init__(self, mean, log_scale):
        self.mean, self.log_scale = mean, log_scale

    def log_prob(self, x):
        y = ops.subtract(x, self.mean) * ops.exp(ops.negative(self.log_scale))
        return (-y - ops.multiply(ops.softplus(-y), 2.0) - self.log_scale).sum(axis=-1)

    def sample(self, rng, n=(), like=None):
        lead = (n,) if isinstance(n, int) else tuple(n)
        u = rng.uniform((*lead, *self.mean.shape), like=getattr(self.mean, "data", self.mean)) * 0.998 + 0.001
        return ops.add(self.mean, ops.exp(self.log_scale) * mv.stop_gradient((np.log(u) - np.log1p(-u)).astype(u.dtype)))


class Odd(Mine):
    def encode(self, x):
        return Logistic(*ops.split(self.net(x.reshape(len(x), self.size)), 2))


class Named(Mine):
    """Its config() tells how it is made again."""

    def __init__(self, latent, rng):
        self.latent = latent
        super().__init__(rng)

    def config(self):
        return {"latent": self.latent}


@dataclass(frozen=True)
class Squared(objectives.Objective):
    """Reconstruction by squared error, and the norm of the code for a penalty."""

    weight: float = 0.1

    def losses(self, players, batch, rng, progress):
        model = players["model"]
        z = model.encode(batch.x).mean
        off = (model.decode(z).mean - batch.x) ** 2
        error, size = off.reshape(len(batch.x), -1).sum(axis=1), (z * z).sum(axis=1)
        return {"model": (error + size * self.weight).mean()}, {"squared error": error, "size": size}
