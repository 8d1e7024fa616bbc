r"""Three losses: reconstruction only, regularizer only, both
==========================================================

A VAE's loss has two parts,

.. math:: L = \underbrace{-\mathbb{E}_{q(z \mid x)} \log p(x \mid z)}_{\text{reconstruction}} +
    \underbrace{\mathrm{KL}(q(z \mid x) \,\|\, \mathcal{N}(0, I))}_{\text{regularizer}} .

What does each do by itself?  The same network, with two latents so that its codes can be drawn, is trained by one, by the other and by
both.  Look at where the means of :math:`q(z \mid x)` go, how wide it is, and what codes drawn from the prior decode to.
``python demos/three_losses.py --out figures`` draws all of it.
"""
# %%
# Four trainings of one architecture.  With ``beta=0`` the KL has no weight.  The autoencoder has one number a latent instead of two, and no
# noise: it is what the lectures say that the first VAE will behave like.

import numpy as np
import stage

from minivae import VAE, Adam, Stream, gradients, losses, no_grad, objectives, plots
from minivae.data import batches, to_float
from minivae.evaluate import nearest, precision_coverage
from minivae.evaluate.surgery import log_aggregate
from minivae.models import AE

asked = stage.options(__doc__)
digits = stage.digits(asked)
epochs = stage.pick(asked, 15, 60, 10)
train_images, train, test = digits.train_images, to_float(digits.train_images[:10_000]), to_float(digits.test_images[:5000])
rng = Stream(asked.seed)


def build(kind: type[VAE], name: str) -> VAE:
    return kind(digits.image_shape, rng.split(name), latent=2, hidden=(200,))


def trained(name: str, kind: type[VAE] = VAE, **settings: object) -> VAE:
    model = build(kind, name)
    stage.train(model, train_images, epochs, name=name, batch_size=100, lr=2e-3, seed=asked.seed, **settings)
    return model


autoencoder = trained("autoencoder", AE)
models = {
    "reconstruction only": trained("reconstruction only", objective=objectives.Elbo(0.0)),
    "regularizer only": trained("regularizer only", objective=objectives.regularizer),
    "both": trained("both"),
}

# %%
# Where the codes of the test images lie, and how wide they are.  The circles are 1 and 2 standard deviations of the prior.


def codes(model: VAE, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of q(z | x).     -> (N, 2) both"""
    with no_grad():
        q = model.encode(images)
        return q.mean.data.astype(np.float64), q.sigma.data.astype(np.float64)


found = {name: codes(model, test) for name, model in models.items()}
for name, (mean, sigma) in found.items():
    print(f"{name}: root mean square of the means {np.sqrt((mean**2).mean()):.2f}, median sigma {np.median(sigma):.4f}")
stage.save(plots.codes(found, digits.test_labels[: len(test)], digits.label_names), asked.out / "three_losses_codes.png")

# %%
# **Reconstruction only.**  Codes that overlap are mistaken for each other, so the means flee from each other and the sigmas shrink, and
# nothing holds them back.  What noise is left costs next to nothing: to leave it away, which makes the model an autoencoder, changes
# its loss by hundredths of a nat.  The lectures say that it then behaves exactly like an autoencoder that is trained as one.  The loss has
# the same lower limit, but where training ends differs: in a plane, which kinds of digits become neighbours is settled early and by chance.
# Over seeds and lengths of training we saw from -1% to +3.5%, where two autoencoders differ by 2%; 5% is claimed.


def reconstruction(model: VAE) -> float:
    """Test loss in nats, with the mean of q(z | x) for z."""
    with no_grad():
        return -float(model.decode(model.encode(test).mean).log_prob(test).data.mean())


mean, sigma = found["reconstruction only"]
here, there = reconstruction(models["reconstruction only"]), reconstruction(autoencoder)
spread, outside = np.sqrt((mean**2).mean()), float(((mean**2).sum(axis=1) > 4).mean())
stage.claim(f"{outside:.0%} of the means are outside of the prior's 2 sigma, where 14% of the prior is", outside > 0.5)
stage.claim(f"the median sigma is {np.median(sigma) / spread:.2%} of their spread, below 1%", np.median(sigma) < 0.01 * spread)
noise = losses(models["reconstruction only"], digits.test_images[: len(test)])["reconstruction"] - here
stage.claim(f"a reconstruction from z instead of its mean costs {noise:.2f} nats, less than 0.5", abs(noise) < 0.5)
apart = f"{here:.1f} and {there:.1f} nats, {here / there - 1:+.1%}"
stage.claim(f"it reconstructs as the autoencoder does: {apart}", abs(here / there - 1) < 0.05)

# %%
# **Regularizer only.**  The KL is zero where every :math:`q(z \mid x)` is the prior, and the encoder gets there.  The lectures say that the
# model then decodes the mean image.  It cannot, by itself: the KL is a function of the encoder alone, and the decoder keeps its initial
# weights, to the last bit.  What is true: codes that are the same for every image carry nothing, and the best that a decoder can make of
# them is the mean image.  To see it, the decoder is trained afterwards on these codes, the encoder left as it is.  Its loss cannot be below
# that of the mean image, and comes near.

model = models["regularizer only"]
mean, sigma = found["regularizer only"]
stage.claim(f"every mean is within 0.05 of 0: {abs(mean).max():.4f}", abs(mean).max() < 0.05)
stage.claim(f"every sigma within 0.05 of 1: {sigma.min():.4f} to {sigma.max():.4f}", abs(sigma - 1).max() < 0.05)
fresh = zip(model.decoder.parameters(), build(VAE, "regularizer only").decoder.parameters(), strict=True)
stage.claim("no weight of the decoder has moved", all((now.data == before.data).all() for now, before in fresh))
z1, z2, grid = plots.manifold_grid(12)
untaught = model.decode_mean(grid.astype(np.float32))

optimizer, order, draws = Adam(model.decoder.parameters(), 1e-3), rng.split("order"), rng.split("draws")
for _ in range(epochs // 3):
    for x in batches(train_images, 100, order):
        loss = -model.decode(model.encode(x).sample(draws)).log_prob(x).mean()
        optimizer.step(gradients(loss, optimizer.params))  # of these weights only
mean_image = to_float(train_images).mean(axis=0, dtype=np.float64).clip(1e-6, 1 - 1e-6)
least = -float((test * np.log(mean_image) + (1 - test) * np.log1p(-mean_image)).sum(axis=(1, 2, 3)).mean())
taught = losses(model, digits.test_images[: len(test)])["reconstruction"]
away = abs(model.decode_mean(grid.astype(np.float32)) - mean_image).mean()
# the decoder still wanders by what a batch of 100 images says of the mean: 0.02 a pixel is a fifth of the mean pixel's own 0.13
stage.claim(f"taught on these codes, it decodes the mean image: {away:.4f} away from it a pixel", away < 0.02)
stage.claim(f"at a loss of {taught:.1f} nats; the mean image has {least:.1f}", abs(taught / least - 1) < 0.02)

# %%
# **Both.**  Do all codes together cover the prior?  With the aggregate posterior :math:`q(z) = \frac1N \sum_n q(z \mid x_n)`, the mass
# that codes and prior share is
#
# .. math:: \int \min(q(z), p(z)) \, dz = \mathbb{E}_{p(z)} \min(1, q(z) / p(z)) ,
#
# 1 where they agree and 0 where they do not meet.  It is a mean over draws from the prior, and its standard error is below 0.011.

drawn = rng.split("prior").normal((2000, 2))


def shared_mass(model: VAE) -> float:
    mean, sigma = codes(model, train)
    log_prior = -0.5 * (drawn.astype(np.float64) ** 2 + np.log(2 * np.pi)).sum(axis=1)
    log_q, _ = log_aggregate(drawn.astype(np.float64), mean, 2 * np.log(sigma))
    return float(np.exp(np.minimum(log_q - log_prior, 0)).mean())


shared = {name: shared_mass(model) for name, model in models.items()}
print("mass shared with the prior: " + ", ".join(f"{name} {mass:.3f}" for name, mass in shared.items()))
most, hardly = stage.pick(asked, (0.4, 0.2), (0.5, 0.1), (0.5, 0.1))
stage.claim(f"with both parts of the loss the codes share more than {most:.0%} of the prior's mass", shared["both"] > most)
stage.claim(f"by reconstruction only, less than {hardly:.0%}", shared["reconstruction only"] < hardly)
narrow = float(np.median(found["both"][1]))
stage.claim(f"yet each code is narrow: the median sigma is {narrow:.3f}, below a quarter", narrow < 0.25)

# %%
# And so what is drawn from the prior decodes to digits, and to all kinds of them.  Real images judge: how far is a decoded one from the
# nearest, and how many of them have a decoded one nearer than their own third neighbour?  Reconstruction only has learned what far codes
# mean; the prior lies in a small part of its map, where few kinds meet.


def judged(model: VAE) -> tuple[float, float]:
    images = model.decode_mean(drawn[:1000])
    return float(nearest(images, train[:4500]).mean()), precision_coverage(images, train[:2000])[1]


decoded = {name: judged(model) for name, model in models.items()}
for name, (distance, coverage) in decoded.items():
    print(f"{name}: decoded prior draws are {distance:.2f} from the nearest training image, and cover {coverage:.0%} of the digits")
(far, few), (near, many) = decoded["reconstruction only"], decoded["both"]
stage.claim(f"drawn from the prior, both is nearer to real digits than reconstruction only: {near:.2f} < {far:.2f}", near < far)
stage.claim(f"and covers more of them: {many:.0%}, against {few:.0%}", many > few + 0.1)
panels = {name: model.decode_mean(grid.astype(np.float32)) for name, model in models.items()}
panels = {"regularizer only, as trained": untaught, "regularizer only, decoder taught": panels.pop("regularizer only"), **panels}
stage.save(plots.manifolds(panels, z1, z2), asked.out / "three_losses_prior.png")

# %%
# **Why not all of the mass?**  At the best weights the mean of all codes is 0 and their second moments are 1, exactly.  For dividing the
# codes by :math:`c`, in the encoder's last layer, and multiplying by :math:`c` in the decoder's first changes no reconstruction, and over
# :math:`c` the KL is least where :math:`\mathbb{E}[\mu_k^2 + \sigma_k^2] = 1`.  (The same goes for shifts.)  Training ends between 1.5 and
# 2.2 instead.  The pull towards 1 is weak: bringing a centred moment from :math:`m` to 1 gains :math:`\frac12 (m - 1 - \log m)` nats, a few
# tenths in 160, and while the reconstruction still improves, wider codes are easier to tell apart.  So moments say little about what is
# covered.  Here the scale is undone by hand, and the loss falls by just that.  What is still not shared are gaps and borders of the map.


def standardized(model: VAE, mean: np.ndarray, sigma: np.ndarray) -> float:
    """Shift and scale the codes to mean 0 and second moment 1, the decoder so that it does not notice.  Returns the gain, in nats."""
    shift, scale = mean.mean(axis=0), 1 / np.sqrt(mean.var(axis=0) + (sigma**2).mean(axis=0))
    last, first = model.encoder.layers[-1], model.decoder.layers[0]
    first.b.data += (shift @ first.w.data).astype(np.float32)
    first.w.data /= scale[:, None].astype(np.float32)
    last.w.data[:, :2] *= scale
    last.b.data[...] = np.concatenate([(last.b.data[:2] - shift) * scale, last.b.data[2:] + 2 * np.log(scale)])
    return float((((mean**2 + sigma**2).mean(axis=0) - 1) / 2 + np.log(scale)).sum())


both = models["both"]
mean, sigma = codes(both, to_float(train_images))
before = losses(both, train_images)
print(f"both: means {mean.mean(axis=0).round(2)}, second moments {(mean**2 + sigma**2).mean(axis=0).round(2)} over the training images")
gain = standardized(both, mean, sigma)
after = losses(both, train_images)
fell, moved = before["loss"] - after["loss"], abs(before["reconstruction"] - after["reconstruction"])
print(f"standardized: -ELBO {before['loss']:.3f} -> {after['loss']:.3f} nats, reconstruction {moved:.4f} apart")
# float32 codes are rounded to 1e-7 of themselves: 1e-4 of a nat at most, of hundreds
stage.claim(f"the scale gains what the equation says: {fell:.3f} nats of {gain:.3f}", abs(fell - gain) < 0.01 and moved < 0.01)
stage.claim(f"which is {gain / before['loss']:.2%} of the loss, below 1%", 0 < gain < 0.01 * before["loss"])
print(f"mass shared with the prior: {shared['both']:.3f} as trained, {shared_mass(both):.3f} standardized")
