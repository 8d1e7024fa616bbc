"""
Missing quadrants
=================

A digit of which only a quadrant is left can be completed in many ways.  A network trained to predict the missing pixels answers with
their mean, a blur.  A conditional VAE is told the given pixels :math:`c` and draws the missing ones :math:`x` from
:math:`p(x \\mid c) = \\int p(x \\mid z, c)\\, p(z \\mid c)\\, dz`: each :math:`z` is another completion (Sohn, Lee and Yan, 2015).  It is
trained by the bound

.. math:: \\log p(x \\mid c) \\ge E_{q(z \\mid x, c)} \\log p(x \\mid z, c) - \\mathrm{KL}(q(z \\mid x, c) \\,\\|\\, p(z \\mid c))

whose prior is a network's Gaussian, so that the KL is the one between two Gaussians.  The likelihood counts the missing pixels and no
others for the simplest of reasons: the model's image is the missing pixels, and the given ones are all condition.

``python demos/missing_quadrants.py --out figures``
"""

from itertools import pairwise

import numpy as np
import stage
from matplotlib.figure import Figure

from minivae import Stream, losses, no_grad, plots
from minivae.data import batch_indices, to_float
from minivae.distributions import Bernoulli
from minivae.evaluate import log_likelihood
from minivae.models import CVAE
from minivae.nn import Dense, Flatten, Reshape, Sequential
from minivae.plots.layout import SMALL, titled

asked = stage.options(__doc__)
digits = stage.digits(asked)
rng = Stream(asked.seed)
quadrants = stage.pick(asked, (1, 3), (1, 2, 3), (1, 2, 3))
hidden, latent = stage.pick(asked, ((100,), 10), ((500, 500), 50), ((500, 500), 200))
epochs, network_epochs, samples = stage.pick(asked, (40, 120, 20), (30, 40, 50), (8, 8, 30))

# %%
# Given are, as in Pyro's tutorial, the lower left quadrant, the left half, or all but the lower right.

train, test = (images[:1000] if asked.tiny else images for images in (digits.train_images, digits.test_images))
H, W, C = digits.image_shape


def known(quadrants: int) -> np.ndarray:
    """True where a pixel is given.     -> (H, W)"""
    given = np.zeros((H, W), bool)
    given[H // 2 :, : W // 2] = True
    given[:, : W // 2] |= quadrants > 1
    given[: H // 2] |= quadrants > 2
    return given


def cut(images: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The given pixels and the missing ones.     (N, H, W, C) -> (N, G, C), and (N, M, 1, C), which is an image to the model"""
    return images[:, given], images[:, ~given][:, :, None]


def joined(c: np.ndarray, x: np.ndarray, given: np.ndarray) -> np.ndarray:
    """`cut` undone, for floats.     (N, G, C), (..., N, M, 1, C) -> (..., N, H, W, C)"""
    whole = np.empty((*x.shape[:-3], H, W, C), np.float32)
    whole[..., given, :], whole[..., ~given, :] = c, x[..., 0, :]
    return whole


# %%
# The plain network and the CVAE have the same hidden layers.  What a model pays for a test digit is :math:`-\log p(x \mid c)` in nats; for
# the CVAE it is estimated from above by importance sampling, :math:`-\log \frac1k \sum_i p(x, z_i \mid c) / q(z_i \mid x, c)`.


def network(c: np.ndarray, x: np.ndarray) -> Sequential:
    """c -> logits of x"""
    weights, order = rng.split("weights of the network"), rng.split("order of the network")
    widths = (c[0].size, *hidden)
    layers = [Dense(a, b, weights, "relu") for a, b in pairwise(widths)]
    net = Sequential(Flatten(), *layers, Dense(hidden[-1], x[0].size, weights), Reshape(*x.shape[1:]))
    stage.fit(net, lambda at: Bernoulli(net(to_float(c[at])), 3).log_prob(to_float(x[at])), len(x), network_epochs, order)
    return net


def cvae(c: np.ndarray, x: np.ndarray, prior: str) -> CVAE:
    model = CVAE(x.shape[1:], rng.split("weights"), condition=c[0].size, prior_kind=prior, latent=latent, hidden=hidden)
    stage.train(model, x, epochs, c, name=f"{prior} prior", batch_size=50 if asked.tiny else 128, seed=asked.seed)
    return model


def nats(model: CVAE, c: np.ndarray, x: np.ndarray) -> np.ndarray:
    """-log p(x | c), estimated.     -> (N,)"""
    parts = batch_indices(len(x), 500)
    return -np.concatenate([log_likelihood(model.condition(c[at]), to_float(x[at]), rng.split("weighing"), samples) for at in parts])


def with_error(nats: np.ndarray) -> tuple[float, float]:
    """Mean and standard error."""
    return nats.mean(), nats.std() / len(nats) ** 0.5


found, saved, between, undecided = {}, {}, {}, {}
for number in quadrants:
    given = known(number)
    (c, x), (c_test, x_test) = cut(train, given), cut(test, given)
    net, model = network(c, x), cvae(c, x, "learned")
    with no_grad():
        blur = Bernoulli(net(to_float(c_test)), 3)
    plain = -blur.log_prob(to_float(x_test)).data
    bound, ours = losses(model, x_test, labels=c_test)["loss"], nats(model, c_test, x_test)
    found[number] = {"network": plain, "conditional VAE, bound": bound, "conditional VAE, importance sampling": ours}
    saved[number] = with_error(plain - ours)
    less = "{:.1f} ± {:.1f} less".format(*saved[number])
    print(f"{number} given: network {plain.mean():.1f} nats; CVAE {ours.mean():.1f}, {less}; its bound {bound:.1f}")

    c = model.condition(c_test[:200])
    draws = np.stack([c.decode_mean(c.sample_prior(rng.split(f"draw {i}"), 200)) for i in range(50)])  # (50, 200, M, 1, C)
    whole = joined(to_float(c_test[:200]), draws, given)
    corner = whole[:, :, H // 2 :, W // 2 :]  # missing whatever is given
    mean = corner.mean(axis=0)
    between[number], undecided[number] = corner.var(axis=0).sum() / 200, (mean * (1 - mean)).sum() / 200
    if number == 1:
        answer, answers = joined(to_float(c_test[:8]), blur.mean.numpy()[:8], given), whole

# %%
# The best that a network of independent pixels can do is :math:`\sum_i H(x_i \mid c)`, which exceeds the entropy
# :math:`H(x \mid c)` by the total correlation of the missing pixels.  That excess is what :math:`z` can save, and it is large where most of
# the digit is missing.
#
# Published, in Pyro's tutorial, are 100.4, 61.9 and 25.4 nats for the network and 71.8, 51.0 and 24.2 for the CVAE: bounds, and on gray
# pixels taken for probabilities, as here (no pixel is made 0 or 1).  Its prior sees the network's answer too, its decoder :math:`z` alone,
# and its training ends where the loss of the test digits is least; here it ends after a few epochs.

stage.claim("one quadrant given, the CVAE saves {:.1f} ± {:.1f} nats".format(*saved[1]), saved[1][0] > 5 * saved[1][1])
published = {"network": (100.4, 61.9, 25.4), "conditional VAE, bound": (71.8, 51.0, 24.2)} if asked.full else {}
figure = Figure(figsize=(6.4, 3.6), layout="constrained", facecolor="white")
ax = titled(figure.add_subplot(), "What the missing pixels of a test digit cost", "quadrants given", "nats per image")
for i, (name, colour) in enumerate(zip(found[1], ("#D55E00", "#0072B2", "#009E73"), strict=True)):
    places = np.array(quadrants) + 0.26 * (i - 1)
    bars = ax.bar(places, [np.mean(costs[name]) for costs in found.values()], 0.24, color=colour, label=name)
    ax.bar_label(bars, fmt="%.1f", fontsize=SMALL, color="white", weight="bold", padding=-13)
    if name in published:
        ax.scatter(places, published[name], marker="_", s=500, color="black", zorder=3, label=None if i else "published")
ax.set_xticks(quadrants)
ax.margins(y=0.12)
figure.legend(fontsize=SMALL, frameon=False, loc="outside lower center", ncols=2)
stage.save(figure, asked.out / "missing_quadrants_nats.png")

# %%
# The network's answer is one and blurred, the completions are many.  A pixel that is 1 in a share :math:`m` of the completions and 0 in the
# others has the variance :math:`m (1 - m)`; gray edges make it less, and an answer that is always the same has none.  In the lower right
# quadrant, which is always missing, the variance should fall with every quadrant that becomes known:
# :math:`E\,\mathrm{Var}(x_i \mid c) \ge E\,\mathrm{Var}(x_i \mid c, c')`.

for number in quadrants:
    print(f"{number} given: variance in the corner {between[number]:.1f} between completions, of m (1 - m) = {undecided[number]:.1f}")
share = between[1] / undecided[1]
stage.claim(f"completions differ: {share:.0%} of the variance that is possible", share > (0.05 if asked.tiny else 0.2))
stage.claim("they differ less, the more is given", bool((np.diff([between[number] for number in quadrants]) < 0).all()))
kept = known(1)
stage.claim("what was given is kept, pixel for pixel", bool((answers[:, :, kept] == to_float(test[:200])[:, kept]).all()))

shown = np.where(kept[..., None], to_float(test[:8]), np.array([0.0, 0.447, 0.698], np.float32))  # the unknown in blue
columns = {"given": shown[:, None], "network": answer[:, None], "conditional VAE": answers[:5, :8].swapaxes(0, 1)}
columns["truth"] = to_float(test[:8])[:, None]
stage.save(plots.groups(columns, "One quadrant given: one answer, or as many as are asked for"), asked.out / "missing_quadrants.png")

# %%
# Does the prior need a network?  Whatever a Gaussian :math:`p(z \mid c)` does, a decoder that sees :math:`c` could do by itself:
# :math:`z = m(c) + s(c)\, \varepsilon`.  It would have to learn to, and with :math:`N(0, I)` the same training gets less far.

given = known(1)
(c, x), (c_test, x_test) = cut(train, given), cut(test, given)
fixed = nats(cvae(c, x, "fixed"), c_test, x_test)
gain, error = with_error(fixed - found[1]["conditional VAE, importance sampling"])
stage.claim(f"the learned prior is worth {gain:.2f} ± {error:.2f} nats", gain > 5 * error)
