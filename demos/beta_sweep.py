"""
Beta, from overfitting to underfitting
======================================

The two terms of a VAE's loss, weighed by :math:`\\beta`, are a rate and a distortion, both in nats an image:

.. math:: L_\\beta = D + \\beta R, \\qquad D = -E_{q(z \\mid x)} \\log p(x \\mid z), \\qquad R = \\mathrm{KL}(q(z \\mid x) \\,\\|\\, p(z))

"If beta is too small, then you get overfitting; if it is too large, poor performance", say the lectures.  Here it goes from 0 to 100, on
digits whose pixels are made black or white, so that :math:`D + R` bounds the nats that a digit takes to store without loss.

``python demos/beta_sweep.py --out figures``
"""

from functools import partial

import numpy as np
import stage
from matplotlib.figure import Figure

from minivae import VAE, Stream, kl, losses, no_grad, plots
from minivae.data import binarize, to_float
from minivae.evaluate import elbo_surgery
from minivae.models import activity
from minivae.objectives import Elbo, Terms
from minivae.plots.layout import INK, SMALL, titled

asked = stage.options(__doc__)
digits = stage.digits(asked)
rng = Stream(asked.seed)
train, test = ((images > 127).astype(np.uint8) * np.uint8(255) for images in (digits.train_images, digits.test_images))
train = train[:1000] if asked.tiny else train
betas = stage.pick(asked, (0, 1, 10, 100), *[(0, 0.01, 0.1, 0.3, 1, 3, 10, 100)] * 2)
epochs, hidden, latent = stage.pick(asked, (40, 64, 10), (30, 400, 20), (8, 400, 20))
settings = {"batch_size": 50 if asked.tiny else 100, "lr": 2e-3 if asked.tiny else 1e-3, "seed": asked.seed}

# %%
# Where does the code fall silent?  A collapsed model draws every pixel with its mean :math:`p_i`.  Let one latent say a little, with mean
# :math:`s f(x)`, where :math:`f` has variance 1, and let the decoder move the logits by :math:`a z`.  That costs :math:`s^2/2` nats of rate
# and saves :math:`s\, a^T \mathrm{Cov}(x, f) - \frac12 a^T V a` of distortion, :math:`V = \mathrm{diag}(p_i (1 - p_i))`; with the best
# :math:`a` and :math:`f`, :math:`\lambda s^2/2` with the largest eigenvalue :math:`\lambda` of the pixels' correlation matrix.  Saying
# something pays if :math:`\beta < \lambda`.

pixels = train.reshape(len(train), -1) / 255.0
threshold = np.linalg.eigvalsh(np.corrcoef(pixels[:, pixels.std(axis=0) > 0].T))[-1]
print(f"the largest eigenvalue of the correlation matrix is {threshold:.1f}")

# %%
# Every model starts from the same weights and sees the same noise.  A draw is one of :math:`p(x \mid z)`, black and white, with :math:`z`
# from the prior; how far it is from the nearest training digit, in pixels, says how much like a digit it is.


def nearest(images: np.ndarray) -> float:
    """Mean over the images of the number of pixels that differ from the nearest training digit.     (N, H, W, C)"""
    a, b = images.reshape(len(images), -1).astype(np.float32), to_float(train[:10_000]).reshape(len(train[:10_000]), -1)
    return float((a.sum(axis=1)[:, None] + b.sum(axis=1) - 2 * a @ b.T).min(axis=1).mean())


def fitted(likelihood: str, beta: float, objective: object = None, **how: object) -> tuple[VAE, float]:
    """A trained model, and what the last third of the epochs still gained, in nats: about as much is wanting."""
    model = VAE(digits.image_shape, rng.split("weights"), latent=latent, hidden=(hidden,), likelihood=likelihood)
    reports = stage.train(model, train, epochs, objective=objective or Elbo(beta), name=f"beta {beta:g}", **settings, **how)
    return model, reports[-1 - epochs // 3]["loss"] - reports[-1]["loss"]


rate, distortion, test_rate, test_distortion, wanting, active, spread, strange = (np.zeros(len(betas)) for _ in range(8))
rebuilt, drawn = [], []
for i, beta in enumerate(betas):
    model, wanting[i] = fitted("bernoulli", beta)
    seen, unseen = losses(model, train[:10_000]), losses(model, test)
    rate[i], distortion[i] = seen["kl"], seen["reconstruction"]
    test_rate[i], test_distortion[i] = unseen["kl"], unseen["reconstruction"]
    active[i] = activity(model, to_float(train[:1000]), rng.split("activity")).active.sum()
    with no_grad():
        q = model.encode(to_float(train[:1000]))
        means = model.decode_mean(model.sample_prior(rng.split("draws"), 500))
        rebuilt.append(model.reconstruct(to_float(test[:6])))
    spread[i] = elbo_surgery(q.mean.data, q.logvar.data, rng.split("surgery")).dimension_kl.sum()
    strange[i] = nearest(binarize(means, rng.split("bits")))
    drawn.append(means[:8])
    print(
        f"beta {beta:<4g}  D {distortion[i]:5.1f}  R {rate[i]:6.2f}   test: D {test_distortion[i]:5.1f}  R {test_rate[i]:6.2f}   "
        f"{active[i]:.0f} active   q(z_k) off the prior by {spread[i]:.2f} nats   a draw is {strange[i]:.0f} pixels off"
    )
real = nearest(to_float(test))
print(f"a test digit is {real:.0f} pixels off")

# %%
# In each row a model; the first shows digits as they are.  With a small :math:`\beta` test digits come back sharp and draws are scribbles:
# the codes lie where the prior never goes.  With a large one all are the same gray cloud.

names = ["digits", *(f"β = {beta:g}" for beta in betas)]
columns = {"test digits, rebuilt": np.stack([to_float(test[:6]), *rebuilt]), "drawn": np.stack([to_float(train[:8]), *drawn])}
stage.save(plots.groups(columns, "From overfitting to underfitting", names), asked.out / "beta_pictures.png")

figure = Figure(figsize=(11, 3.9), layout="constrained", facecolor="white")
curve, bars, draws = figure.subplots(1, 3)
titled(curve, "What each beta trades for what", "rate R, nats per image", "distortion D, nats per image")
for x, y, colour, name in ((rate, distortion, "#0072B2", "training digits"), (test_rate, test_distortion, "#D55E00", "test digits")):
    curve.plot(x, y, color=colour, marker="o", markersize=4, label=name)
note = {"textcoords": "offset points", "fontsize": SMALL, "color": INK, "ha": "center"}
for i, beta in enumerate(betas):  # by turns above and below, where they are far enough apart
    at, offset = ((test_rate[i], test_distortion[i]), 6) if i % 2 else ((rate[i], distortion[i]), -7)
    curve.annotate(f"{beta:g}", at, (0, offset), va="bottom" if i % 2 else "top", **note)
curve.set(xscale="symlog", xlim=(-0.5, 2 * rate[0]), ylim=(0, 1.1 * distortion[-1]))
places, ticks = np.arange(len(betas)), [f"{beta:g}" for beta in betas]
titled(bars, "Nats that a test digit takes: D + R", "beta", "nats per image").set_xticks(places, ticks)
bars.bar(places, test_distortion, color="#56B4E9", label="D")
bars.bar(places, test_rate, bottom=test_distortion, color="#E69F00", label="R")
for place, total in zip(places, test_rate + test_distortion, strict=True):
    bars.annotate(f"{total:.0f}", (place, total), (0, 2), **note)
titled(draws, "How far draws are from digits", "beta", "pixels unlike the nearest training digit").set_xticks(places, ticks)
draws.plot(places, strange, color="#009E73", marker="o", markersize=4)
draws.plot(places, [real] * len(places), color="0.4", linestyle=":", label="a test digit")
draws.set_ylim(0, 1.1 * strange.max())
bars.margins(y=0.08)
for ax in (curve, bars, draws):
    ax.legend(fontsize=SMALL, frameon=False)
stage.save(figure, asked.out / "beta_sweep.png")

# %%
# Why must the rate of the training digits fall?  Let :math:`(D_1, R_1)` be best for :math:`\beta_1` and :math:`(D_2, R_2)` for
# :math:`\beta_2 > \beta_1`.  Then :math:`D_1 + \beta_1 R_1 \le D_2 + \beta_1 R_2` and :math:`D_2 + \beta_2 R_2 \le D_1 + \beta_2 R_1`,
# and the sum of the two says :math:`(\beta_2 - \beta_1)(R_2 - R_1) \le 0`; with that, the first says :math:`D_1 \le D_2`.  Where training
# stops :math:`\varepsilon` short of the best for :math:`\beta_1`, :math:`D_1 \le D_2 + \varepsilon`.

one = betas.index(1)
stage.claim(f"with every step of beta the rate falls, from {rate[0]:.0f} nats to {rate[-1]:.3f}", (np.diff(rate) < 0).all())
stage.claim("and the distortion rises, if not by more than training had still to gain", (np.diff(distortion) > -wanting[:-1]).all())
silent = np.array(betas) > threshold
stage.claim(f"no latent is active where beta is above {threshold:.1f}, and some are below", ((active == 0) == silent).all())

# %%
# The lectures' two ends.  Training and test digits are told apart by a small :math:`\beta` and not by a large one, the more so the fewer
# they are (by 20 nats where 4,500 are trained on, by 2 where 60,000 are): so far it overfits.  But what :math:`\beta = 0` loses as a model
# of digits it loses on the training digits too.  The gap is not the harm: the harm is the rate, for codes that the prior knows nothing of.
# Least :math:`D + R` is what :math:`\beta = 1` is trained for; the gap, which a larger :math:`\beta` makes smaller, is too small to move
# that on test digits by a step.

gap, cost, test_cost = test_distortion - distortion, rate + distortion, test_rate + test_distortion
stage.claim(
    f"D of test and of training digits differ by {gap[0]:.1f}, {gap[one]:.1f} and {gap[-1]:.1f} nats where beta is 0, 1 and 100",
    gap[0] > gap[one] > gap[-1],
)
stage.claim(f"test digits take least where beta is 1: {test_cost[one]:.1f} nats, and {test_cost[0]:.0f} at 0", test_cost.argmin() == one)
lost = (cost[0] - cost[one]) / (test_cost[0] - test_cost[one])
stage.claim(f"of what beta = 0 loses there, training digits lose {lost:.0%} as well", lost > 0.9)
stage.claim(
    f"at 0 the latents, each by itself, are 10 times as far from the prior as at 1: {spread[0]:.0f} nats, and {spread[one]:.2f}",
    spread[0] > 10 * spread[one],
)
stage.claim(
    f"draws are {strange[0]:.0f}, {strange[one]:.0f} and {strange[-1]:.0f} pixels off where beta is 0, 1 and 100",
    strange[one] < min(strange[0], strange[-1]),
)

# %%
# A loss that averages the squared error over the :math:`d` pixels and sums the KL, :math:`\frac1d |x - \hat x|^2 + \lambda\, \mathrm{KL}`,
# has a :math:`\beta` of its own: times :math:`d/2` it is the loss of pixels with a Gaussian noise of variance 1, and
# :math:`\beta = \lambda d / 2`.  The innocent :math:`\lambda = 1` is 392 here.  As above, a code falls silent where that exceeds the
# largest eigenvalue of the pixels' covariance.


def averaged(model: VAE, x: np.ndarray, noise: Stream, weight: float) -> Terms:
    """The loss as the lecture has it; the weight is its lambda."""
    q = model.encode(x)
    error = ((model.decode(q.sample(noise)).mean - x) ** 2).mean(axis=(1, 2, 3))
    divergence = kl(q, model.prior)
    return Terms((error + divergence * weight).mean(), error, divergence)


eigenvalues = np.linalg.eigvalsh(np.cov(pixels.T))
for weight in (1.0, 2 / pixels.shape[1]):
    model, _ = fitted("gaussian", weight, partial(averaged, weight=weight))
    units = int(activity(model, to_float(train[:1000]), rng.split("activity")).active.sum())
    own = weight * pixels.shape[1] / 2
    worth = int((eigenvalues > own).sum())
    stage.claim(
        f"lambda {weight:.5f} is a beta of {own:g}: {worth} eigenvalues exceed it, {units} latents are active", (units > 0) == (worth > 0)
    )
