r"""Codes that overlap: what lies between two images
================================================

Two images whose codes overlap: a :math:`z` from the overlap may have come from either.  What should it decode to, and how wrong is that?
The decoder with the least squared error is :math:`\mathbb{E}[x \mid z]`, a mixture of the images by the shares :math:`w_n(z)` that their
codes have of the density there,

.. math:: \hat{x}(z) = \sum_n w_n(z) \, x_n, \quad w_n(z) = \frac{q(z \mid x_n)}{\sum_m q(z \mid x_m)}, \qquad
    \text{error}(z) = \sum_n w_n(z) \, \| x_n - \hat{x}(z) \|^2 .

For two images at distance :math:`D` the error is :math:`w (1 - w) D^2`: nothing where one code is alone, and at most :math:`D^2 / 4`, in
the middle of the overlap.  ``python demos/overlap.py --out figures`` trains decoders and compares.
"""
# %%
# **Two images.**  Their codes are :math:`\mathcal{N}(\pm 1, \sigma^2)`, so that :math:`w(z) = 1 / (1 + e^{-2 z / \sigma^2})`.  A network is
# trained to decode them, once for codes that touch, and twice for codes that overlap more and more.

import numpy as np
import stage
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minivae import VAE, Adam, Stream, Tensor, gradients, no_grad, ops
from minivae.data import to_float
from minivae.nn import Dense, Sequential
from minivae.plots.layout import INK, SMALL, TEXT, TITLE, calm
from minivae.quadrature import hermite_rule

BLUE, ORANGE, BLACK = "#0072B2", "#D55E00", "0.15"
asked = stage.options(__doc__)
digits = stage.digits(asked)
rng = Stream(asked.seed)
zero, one = (to_float(digits.test_images[digits.test_labels == digit][0]).reshape(-1) for digit in (0, 1))
D2 = float(((one - zero) ** 2).sum())
pair = np.concatenate([np.tile(zero, (100, 1)), np.tile(one, (100, 1))])
sides = np.repeat(np.float32([-1, 1]), 100)[:, None]


def squared_error(net: Sequential, mean: Tensor | float, sigma: Tensor | float, noise: np.ndarray) -> Tensor:
    """Mean over codes z = -mean + sigma eps of 0 and +mean + sigma eps of 1."""
    return ops.square(net(sides * mean + noise * sigma) - pair).sum(axis=1).mean()


def trained_decoder(sigma: float) -> Sequential:
    draws = rng.split(f"sigma {sigma}")
    net = Sequential(Dense(1, 64, draws, "tanh"), Dense(64, zero.size, draws))
    params, steps = net.parameters(), stage.pick(asked, 1500, 3000, 6000)
    optimizer = Adam(params, 1e-2)
    for step in range(steps):
        optimizer.lr = 1e-2 * (1 - step / steps)
        optimizer.step(gradients(squared_error(net, 1.0, sigma, draws.normal(sides.shape)), params))
    return net


def share(z: np.ndarray, mean: float, sigma: float) -> np.ndarray:
    """w(z), of the image at +mean."""
    return 1 / (1 + np.exp(-2 * mean * z / sigma**2))


def density(z: np.ndarray, mean: np.ndarray | float, sigma: np.ndarray | float) -> np.ndarray:
    return np.exp(-0.5 * ((z - mean) / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)


def strip(ax: Axes, images: np.ndarray, z: np.ndarray, count: int) -> None:
    """Decoded images in a row, each over its z."""
    step = (z[-1] - z[0]) / count
    centres = z[0] + step * (np.arange(count) + 0.5)
    shown = images.reshape(-1, *digits.image_shape)[np.searchsorted(z, centres)].clip(0, 1)
    ax.imshow(np.concatenate(list(shown[..., 0]), axis=1), cmap="gray", vmin=0, vmax=1, extent=(z[0], z[-1], 0, step), aspect="auto")
    ax.set_yticks([])
    calm(ax).tick_params(bottom=False)


decoders = {sigma: trained_decoder(sigma) for sigma in (0.5, 0.7, 1.0)}
fig = Figure(figsize=(9, 5.2), layout="constrained", facecolor="white")
rows = fig.subplots(3, len(decoders), sharex="col", height_ratios=(0.55, 2, 1))
for column, (sigma, net) in enumerate(decoders.items()):
    z = np.linspace(-1 - 2 * sigma, 1 + 2 * sigma, 161)
    w, seen = share(z, 1.0, sigma), (density(z, -1, sigma) + density(z, 1, sigma)) / 2
    with no_grad():
        images = net(z[:, None].astype(np.float32)).data.astype(np.float64)
    to_zero, to_one = (((images - x) ** 2).sum(axis=1) for x in (zero, one))
    error, theory = (1 - w) * to_zero + w * to_one, w * (1 - w) * D2
    off = float((abs(error - theory) * seen).sum() / (theory * seen).sum())
    # the network's squared distance from the best decoder comes on top: about 1% here, where a w with sigma for sigma^2 is tens off
    stage.claim(f"sigma {sigma}: over all codes the error is {off:.1%} off w (1 - w) D^2, less than 5%", off < 0.05)
    if sigma == 1.0:
        peak, height, middle = z[error.argmax()], error.max() / D2, images[len(z) // 2]
        stage.claim(f"it peaks in the middle of the overlap, at z = {peak:+.2f}, with {height:.3f} D^2", abs(peak) < 0.2)
        stage.claim("as high as a quarter", abs(height - 0.25) < 0.02)
        away = ((middle - (zero + one) / 2) ** 2).sum() / D2
        stage.claim(f"and decodes to half of each image there: {away:.4f} D^2 from it", away < 0.01)
    strip(rows[0, column], images, z, 9)
    ax = rows[1, column]
    ax.plot(z, (1 - w) ** 2 * D2, color=ORANGE, linewidth=1, linestyle=":")
    ax.plot(z, w**2 * D2, color=BLUE, linewidth=1, linestyle=":")
    ax.plot(z, theory, color=BLACK, linewidth=1, linestyle=":")
    for values, colour, name in ((to_zero, BLUE, "against the 0"), (to_one, ORANGE, "against the 1"), (error, BLACK, "expected")):
        ax.plot(z[::8], values[::8], color=colour, linestyle="", marker="o", markersize=3.5, label=name)
    rows[2, column].fill_between(z, density(z, -1, sigma), color=BLUE, alpha=0.5, linewidth=0)
    rows[2, column].fill_between(z, density(z, 1, sigma), color=ORANGE, alpha=0.5, linewidth=0)
    rows[0, column].set_title(f"σ = {sigma}", fontsize=TITLE, color=INK)
    rows[2, column].set_xlabel("z", fontsize=TEXT, color=INK)
    rows[2, column].set_ylim(bottom=0)
    calm(ax), calm(rows[2, column])
rows[1, 0].set_ylabel("squared error, sum over pixels", fontsize=TEXT, color=INK)
rows[2, 0].set_ylabel("density of codes", fontsize=TEXT, color=INK)
handles = rows[1, 0].get_legend_handles_labels()
fig.legend(*handles, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False, title="dotted: theory", title_fontsize=SMALL)
stage.save(fig, asked.out / "overlap_two_images.png")

# %%
# **How can the encoder reduce the error?**  By moving the means apart, or by shrinking sigma; only :math:`\mu / \sigma` counts.  The error
# over all codes is an integral, :math:`R = D^2 \, \mathbb{E}[w (1 - w)]`.  A step of training holds the decoder still and asks for the
# gradient in :math:`\mu` and :math:`\sigma` through the sampled :math:`z`.  Where the decoder is the best for its codes, that is the slope
# of :math:`R` itself: to first order, the decoder has nothing left to gain.


def least_error(mean: float, sigma: float) -> float:
    """R, by Gauss-Hermite quadrature over the codes of one image: E[w (1 - w)] over both is half of E[1 - w] over those."""
    t, weight = hermite_rule(1, 200)
    return D2 / 2 * float(weight @ (1 - share(mean + sigma * t[:, 0], mean, sigma)))


h, noise = 1e-4, rng.split("gradient").normal((stage.pick(asked, 100, 400, 400), *sides.shape))
for sigma, net in decoders.items():
    moved = [Tensor(np.full((), value, np.float32)) for value in (1.0, sigma)]
    found = np.array([[g.item() for g in gradients(squared_error(net, *moved, eps), moved)] for eps in noise])
    slopes, errors = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(len(noise))
    exact = [least_error(1 + h, sigma) - least_error(1 - h, sigma), least_error(1, sigma + h) - least_error(1, sigma - h)]
    for name, slope, error, of_r in zip(("mu", "sigma"), slopes, errors, np.array(exact) / (2 * h), strict=True):
        # 4 standard errors, and 5% for a decoder that is not quite the best: its error enters to first order
        near = abs(slope - of_r) < 4 * error + 0.05 * abs(of_r)
        stage.claim(f"sigma {sigma}: slope in {name} {slope:+.2f} ± {error:.2f}, of R {of_r:+.2f}", near)
    stage.claim("a longer way between the means and a smaller sigma reduce the error", slopes[0] < 0 < slopes[1])

# %%
# **Real digits.**  A VAE with one latent is trained on zeros and ones: the line between codes is all there is.  Its best decoder is again a
# mixture, of all training images whose codes reach z.  The error splits in three: what the network adds to the best decoder's error, what
# zeros differ from zeros and ones from ones at the same z, and what the two kinds differ from each other,
#
# .. math:: \text{error}(z) = \| \hat{x}_\text{net} - \hat{x} \|^2 + \sum_k w_k \, \mathrm{Var}_k(z) +
#     w_0 w_1 \, \| \hat{x}_0 - \hat{x}_1 \|^2 .
#
# The last part is the one above.  Right at the border the network adds as much again: it is smooth, and few codes teach it there.

kept = digits.train_labels < 2
train_images, labels = digits.train_images[kept], digits.train_labels[kept]
model = VAE(digits.image_shape, rng.split("weights"), latent=1, hidden=(200,))
stage.train(model, train_images, stage.pick(asked, 60, 150, 25), batch_size=50, lr=2e-3, seed=asked.seed)
train_images, labels = train_images[:3000], labels[:3000]
pixels = to_float(train_images).reshape(len(labels), -1).astype(np.float64)
with no_grad():
    q = model.encode(to_float(train_images))
    mean, sigma = q.mean.data[:, 0].astype(np.float64), q.sigma.data[:, 0].astype(np.float64)
z = np.linspace(*np.quantile(mean, [0.002, 0.998]), 241)
by_image = density(z[:, None], mean, sigma) / len(labels)  # (Z, N), sums to q(z)
q_z = by_image.sum(axis=1)
w = by_image / q_z[:, None]
made = model.decode_mean(z[:, None].astype(np.float32)).reshape(len(z), -1).astype(np.float64)
best, of_one = w @ pixels, w @ (labels == 1)
error = w @ (pixels**2).sum(axis=1) - 2 * (made * best).sum(axis=1) + (made**2).sum(axis=1)
excess = ((made - best) ** 2).sum(axis=1)
kinds = [(w * (labels == k)) @ pixels / np.maximum(share_, 1e-12)[:, None] for k, share_ in ((0, 1 - of_one), (1, of_one))]
way = kinds[1] - kinds[0]
between = of_one * (1 - of_one) * (way**2).sum(axis=1)

overlap = 4 * of_one * (1 - of_one) > 0.5  # the rarer kind has at least 15% there
high, low = (float((error * q_z)[at].sum() / q_z[at].sum()) for at in (overlap, ~overlap))
print(f"the median sigma is {np.median(sigma):.3f}; {q_z[overlap].sum() / q_z.sum():.1%} of the codes are where zeros and ones overlap")
stage.claim(f"where they overlap the error is {high:.1f}, elsewhere {low:.1f}: at least 1.2 times as much", high > 1.2 * low)
added = float((excess * q_z).sum() / ((error - excess) * q_z).sum())
stage.claim(f"the network adds {added:.0%} to the least possible error, less than a quarter", 0 <= added < 0.25)
at = int(abs(of_one - 0.5).argmin())
along = float(((made[at] - kinds[0][at]) @ way[at]) / (way[at] @ way[at]))
print(f"at z = {z[at]:.2f}, where the shares are {1 - of_one[at]:.2f} and {of_one[at]:.2f}:")
stage.claim(f"it decodes to something in between, {along:.2f} of the way from the zeros to the ones there", 0.2 < along < 0.8)

fig = Figure(figsize=(7.5, 5.2), layout="constrained", facecolor="white")
top, middle, bottom = fig.subplots(3, 1, sharex=True, height_ratios=(0.5, 2, 1))
strip(top, made, z, 14)
middle.fill_between(z, between, color=ORANGE, alpha=0.6, linewidth=0, label="zeros differ from ones")
middle.fill_between(z, between, error - excess, color="0.8", linewidth=0, label="digits of a kind differ")
middle.fill_between(z, error - excess, error, color="0.55", linewidth=0, label="the network adds")
middle.plot(z, error, color=BLACK, linewidth=1.4, label="error of the network")
middle.set_ylim(bottom=0)
middle.set_ylabel("expected squared error", fontsize=TEXT, color=INK)
for share_, colour, name in ((1 - of_one, BLUE, "zeros"), (of_one, ORANGE, "ones")):
    bottom.fill_between(z, q_z * share_, color=colour, alpha=0.5, linewidth=0, label=f"codes of {name}")
bottom.set(ylim=(0, None), xlim=(z[0], z[-1]))
bottom.set_ylabel("density of codes", fontsize=TEXT, color=INK)
bottom.set_xlabel("z  (σ of the prior)", fontsize=TEXT, color=INK)
for ax in (middle, bottom):
    calm(ax).legend(fontsize=SMALL, frameon=False)
stage.save(fig, asked.out / "overlap_digits.png")
