"""The exact posterior, and the two gaps of the encoder
======================================================

What an encoder approximates can be computed where there are two latents: :math:`p(z \\mid x) = p(x \\mid z)\\, p(z) / p(x)`, with
:math:`p(x)` a sum over a fine grid.  The ELBO is below :math:`\\log p(x)` by exactly the divergence of the encoder's Gaussian from it,

.. math:: \\log p(x) - \\text{ELBO} = \\mathrm{KL}(q \\,\\|\\, p(z \\mid x))
          = \\underbrace{\\mathrm{KL}(q^* \\,\\|\\, p(z \\mid x))}_{\\text{approximation gap}}
          + \\underbrace{\\mathrm{KL}(q \\,\\|\\, p(z \\mid x)) - \\mathrm{KL}(q^* \\,\\|\\, p(z \\mid x))}_{\\text{amortization gap}}

where :math:`q^*` is the best Gaussian with independent latents for that one image.  The first part is what the family of Gaussians cannot
say: that the latents are correlated, a bend, a second mode.  The second is lost because one network answers for all images (C. Cremer,
X. Li and D. Duvenaud, "Inference suboptimality in variational autoencoders", 2018).  ``python demos/exact_posterior.py --out figures``
"""

import numpy as np
import stage
from matplotlib.figure import Figure

from minivae import VAE, Stream, data, kl, no_grad, plots
from minivae.evaluate import inference_gaps, log_likelihood
from minivae.plots.layout import INK, SMALL, TEXT, TITLE
from minivae.quadrature import hermite_expectation

asked = stage.options(__doc__)

# %%
# A VAE with two latents learns the digits.  Its activation is tanh: the decoder is then smooth, and the quadrature below exact to many
# digits.  Everything after the training is computed in float64.

digits = stage.digits(asked)
step = stage.pick(asked, 2, 1, 1)  # with --tiny each second pixel
train, test = digits.train_images[:, ::step, ::step], digits.test_images[:, ::step, ::step]
root = Stream(asked.seed)
model = VAE(train[0].shape, root.split("weights"), latent=2, hidden=stage.pick(asked, (50,), (200,), (200,)), activation="tanh")
reports = stage.train(model, train, stage.pick(asked, 10, 40, 20), batch_size=64, lr=2e-3, seed=asked.seed)
print(f"after {len(reports)} epochs the loss is {reports[-1]['loss']:.1f} nats on the training images")
model.to(dtype=np.float64)

# %%
# The images: the first of the test set, which no one has chosen, and the two of a hundred others that are fitted worst.  What tells
# these is a cheap estimate of the gap: the importance-weighted bound of 50 samples less that of one.

count = stage.pick(asked, 3, 6, 16)
others = data.to_float(test[count : count + 100]).astype(np.float64)
guess = log_likelihood(model, others, root.split("guess"), 50) - log_likelihood(model, others, root.split("guess of the elbo"), 1)
worst = others[np.argsort(-guess)[: stage.pick(asked, 1, 2, 2)]]
x = np.concatenate([data.to_float(test[:count]).astype(np.float64), worst])
gaps = inference_gaps(model, x)
log_p = gaps.posterior.log_p
first = slice(count)  # the averages are over these

# %%
# The ELBO itself is computed a third way, which knows of no posterior and no grid: the expectation of log p(x | z) under q by Gauss-Hermite
# quadrature.  How far it is off is judged by taking fewer nodes.  Rounding adds what 784 terms of a sum can: 1e-10 nats.


def exact_elbo(nodes: int) -> np.ndarray:
    with no_grad():
        return hermite_expectation(gaps.q, lambda z: model.decode(z).log_prob(x), nodes) - kl(gaps.q, model.prior).data


elbo, fewer = exact_elbo(48), exact_elbo(36)
tolerance = gaps.posterior.error + gaps.error + abs(elbo - fewer) + 1e-10
off = abs(log_p - elbo - gaps.total)
stage.claim(f"log p(x) is above the ELBO for every image, by {(log_p - elbo).min():.2f} nats at least", bool((log_p > elbo).all()))
stage.claim(
    f"log p(x) - ELBO = KL(q || p(z | x)): they differ by {off.max():.0e} nats at most, which the errors of the three integrals allow "
    f"(at most {tolerance.max():.0e})",
    bool((off <= tolerance).all() and tolerance.max() < 1e-4),
)
stage.claim(
    f"no part is negative: approximation from {gaps.approximation.min():.3f}, amortization from {gaps.amortization.min():.3f} nats",
    bool((gaps.approximation >= -gaps.error).all() and (gaps.amortization >= -2 * gaps.error).all()),
)

# %%
# Which part is larger?  Here the amortization gap is, by much: the Gaussian family would do, if only the network found the right one.
# (Cremer et al. found imperfect encoders to be the larger cause in larger models, too.)

print("image  log p(x)     ELBO    gap = approximation + amortization")
for i in range(len(x)):
    print(f"{i:5d}  {log_p[i]:8.2f} {elbo[i]:8.2f} {gaps.total[i]:6.3f} = {gaps.approximation[i]:13.3f} + {gaps.amortization[i]:.3f}")
means = gaps.total[first].mean(), gaps.approximation[first].mean(), gaps.amortization[first].mean()
print("mean of the first {}: {:.3f} = {:.3f} + {:.3f}".format(count, *means))
stage.claim(f"on average amortization costs more: {means[2]:.2f} nats against {means[1]:.2f}", means[2] > means[1])
stage.claim(
    f"so it does for the worst: {gaps.amortization[count:].sum() / gaps.total[count:].sum():.0%} of their gap is the encoder's",
    gaps.amortization[count:].sum() > gaps.approximation[count:].sum(),
)

# %%
# From the best fitted to the worst: the posterior in colours, the encoder's Gaussian, and the best one.  Most posteriors are almost
# Gaussian, and some a little tilted; where the fit is bad the encoder's ellipse lies beside the posterior, not across it.

shown = np.argsort(gaps.total)[np.unique(np.linspace(0, len(x) - 1, min(len(x), 6)).round().astype(int))]
pictures = plots.posteriors(
    x[shown],
    [gaps.posterior.axes[i] for i in shown],
    [gaps.posterior.density[i] for i in shown],
    {
        "the encoder's Gaussian": (gaps.q.mean.data[shown], np.exp(gaps.q.logvar.data[shown] / 2)),
        "the best Gaussian for this image": (gaps.best.mean[shown], np.exp(gaps.best.logvar[shown] / 2)),
    },
    [f"gap {gaps.total[i]:.2f} nats\n= {gaps.approximation[i]:.2f} + {gaps.amortization[i]:.2f}" for i in shown],
)
stage.save(pictures, asked.out / "exact_posterior.png")

# %%
# The parts as bars, for the images that no one has chosen.  The family's part is so small that it needs a scale of its own.

order = np.append(np.argsort(gaps.total[first])[-12:], -1)
parts = {"approximation: the family of Gaussians": gaps.approximation, "amortization: the encoder": gaps.amortization}
bars = {name: np.append(part[first], part[first].mean())[order] for name, part in parts.items()}
names = [*map(str, order[:-1]), "mean"]
figure = Figure(figsize=(9, 3.8), layout="constrained", facecolor="white")
left, right = figure.subplots(1, 2)
plots.draw_stacked_bars(left, names, bars).set_title("log p(x) − ELBO", fontsize=TITLE, color=INK)
plots.draw_stacked_bars(right, names, dict([next(iter(bars.items()))])).set_title("the approximation gap alone", fontsize=TITLE, color=INK)
left.set_ylabel("nats", fontsize=TEXT, color=INK)
for ax in (left, right):
    ax.set_xlabel("test image", fontsize=TEXT, color=INK)
    ax.tick_params(axis="x", labelsize=SMALL)
figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=TEXT, frameon=False)
stage.save(figure, asked.out / "exact_posterior_gaps.png")

# %%
# Importance weights close the gap from the other side.  The bound with k samples, :math:`L_k`, is the ELBO at k = 1 and rises towards
# log p(x).  That it does not rise beyond is a claim with a proof: :math:`E[e^{\hat L_k - \log p(x)}] = 1` for each estimate, so that by
# Markov's inequality the sum of R independent :math:`\hat L_k - \log p(x)` exceeds 14 with a chance of at most :math:`e^{-14}`, one in a
# million.

repeats = stage.pick(asked, 40, 40, 100)
again = np.repeat(x[first], repeats, axis=0)
bounds, errors = [], []
for k in (1, 10, 100):
    draws = log_likelihood(model, again, root.split(f"importance samples {k}"), k)
    each = draws.reshape(count, repeats)
    bounds.append(draws.mean())
    errors.append(np.sqrt((each.var(axis=1, ddof=1) / repeats).sum()) / count)
    print(f"k = {k:3d}: {bounds[-1]:.3f} ± {errors[-1]:.3f} nats")
    above = (draws - np.repeat(log_p[first], repeats)).sum()
    stage.claim(f"k = {k}: the sum of {len(draws)} estimates less log p(x) is {above:.1f}, not above 14", above <= 14)
target = log_p[first].mean()
stage.claim(
    f"the bound of one sample is the ELBO, {elbo[first].mean():.3f}, within 5 standard errors",
    abs(bounds[0] - elbo[first].mean()) < 5 * errors[0],
)
rise = np.diff([*bounds, target])
stage.claim(
    f"it rises with k, within 5 standard errors, to {target:.3f}: by " + ", ".join(f"{r:.3f}" for r in rise),
    bool((rise > -5 * np.array([*errors[1:], errors[-1]])).all() and rise[0] > 0),
)
