"""Denoising and inpainting: the mean of what is possible, and several possibilities
====================================================================================

A model of clean images answers two questions that it was not trained for: what was the image behind this noise, and what lies under that
scratch?  Both are posteriors: :math:`p(x \\mid y) = \\int p(x \\mid z, y)\\, p(z \\mid y)\\, dz`, with a likelihood of what is seen that
the decoder gives in closed form.  Gaussians are fitted to :math:`p(z \\mid y)` and corrected by importance weights.  The posterior *mean*
has the least squared error of all answers.  ``python demos/restoration.py --out figures``
"""

import numpy as np
import stage

from minivae import VAE, Stream, data, inference, plots
from minivae.applications import denoise, gibbs, inpaint, named_mask
from minivae.data.sprites import Sprites
from minivae.evaluate import GaussianImages, neighbours_mean, psnr
from minivae.objectives import Denoising

asked = stage.options(__doc__)
digits = stage.digits(asked)
root = Stream(asked.seed)
epochs, hidden, size = stage.pick(asked, (12, (150,), 20), (40, (400,), 20), (24, (500, 500), 32))
settings = stage.pick(
    asked,
    {"batch_size": 64, "lr": 3e-3},
    {"batch_size": 64, "lr": 1e-3},
    {"batch_size": 128, "lr": 1e-3, "lr_schedule": "cosine"},
)
count = stage.pick(asked, 60, 200, 1000)
train = data.to_float(digits.train_images)
test = data.to_float(digits.test_images[:count])


def trained(images: np.ndarray, name: str, latent: int = size, objective: object = None, epochs: int = epochs) -> VAE:
    model = VAE(images.shape[1:], root.split("weights"), latent=latent, hidden=hidden)
    stage.train(model, images, epochs, objective=objective, seed=asked.seed, name=name, **settings)
    return model


# %%
# Noise
# -----
# Beside the clean VAE's posterior mean: the best linear estimate (LMMSE, a Wiener filter with the covariance of the training images), and
# a denoising VAE, which was trained to see through noise of just this strength and answers in one pass.  PSNR is of the pooled error.

clean = trained(digits.train_images, "a VAE of clean digits")
linear = GaussianImages(train)
rows = {}
for sigma in (0.5, 1.0):
    y = test + np.float32(sigma) * root.split(f"noise {sigma}").normal(test.shape)
    ours = denoise(clean, y, root.split("denoise"), sigma, samples=200, draws=4)
    seer = trained(digits.train_images, f"a denoising VAE, {sigma}", objective=Denoising(sigma))
    figures = {
        "noisy": psnr(y, test),
        "LMMSE": psnr(linear.denoise(y, sigma), test),
        "denoising VAE": psnr(inference.reconstruct(seer, y), test),
        "posterior mean": psnr(ours.mean, test),
        "one draw": psnr(ours.draws[0], test),
    }
    print(f"sigma {sigma}: " + ", ".join(f"{name} {value:.2f} dB" for name, value in figures.items()))
    print(f"  effective samples of 200: {np.median(ours.effective):.0f} in the median")
    stage.claim(
        f"sigma {sigma}: the posterior mean, {figures['posterior mean']:.2f} dB, beats the best linear estimate, {figures['LMMSE']:.2f} dB",
        figures["posterior mean"] > figures["LMMSE"],
    )
    stage.claim(f"and above a draw from the same posterior, {figures['one draw']:.2f} dB", figures["posterior mean"] > figures["one draw"])
    rows[sigma] = (y, ours)
y, ours = rows[1.0]
stage.save(
    plots.groups(
        {
            "image": test[:6, None],
            "noisy": np.clip(y[:6, None], 0, 1),
            "linear": np.clip(linear.denoise(y, 1.0)[:6, None], 0, 1),
            "mean": ours.mean[:6, None],
            "draws": ours.draws[:, :6].transpose(1, 0, 2, 3, 4),
        },
        "Noise as strong as the contrast",
    ),
    asked.out / "denoising.png",
)

# %%
# Missing pixels
# --------------
# The baseline is stubborn: the mean of the ten training digits that are nearest where pixels are known.  To be ahead of it takes all of
# MNIST, a larger VAE that was trained for longer, and a search: hundreds of known pixels are explained by few codes, some in one place and
# some in another, and with 3 places to start from most images lean on one or two codes.  So ``--full`` starts from 10.

rows = {}
samples, starts = stage.pick(asked, (240, 3), (240, 6), (600, 10))
for name in ("bottom", "centre", "80%"):
    known = named_mask(name, test.shape, root.split("mask"))
    ours = inpaint(clean, test, known, root.split(f"inpaint {name}"), samples=samples, draws=6, starts=starts)
    hidden_pixels = np.broadcast_to(~known, test.shape)
    guesses = {
        "training mean": np.where(known, test, linear.mean.reshape(test.shape[1:])),
        "Gaussian": linear.inpaint(test, known),
        "10-NN": neighbours_mean(test, known, train),
        "posterior mean": ours.mean,
        "one completion": ours.draws[0],
    }
    figures = {guess: psnr(image[hidden_pixels], test[hidden_pixels]) for guess, image in guesses.items()}
    print(f"{name}: " + ", ".join(f"{guess} {value:.2f} dB" for guess, value in figures.items()))
    print(f"  effective samples of {samples}: {np.median(ours.effective):.0f} in the median")
    rival = "10-NN" if asked.full else "training mean"
    stage.claim(
        f"{name}: the posterior mean, {figures['posterior mean']:.2f} dB, beats the {rival}, {figures[rival]:.2f} dB, and one completion",
        figures["posterior mean"] > max(figures[rival], figures["one completion"]),
    )
    rows[name] = (np.where(known, test, np.float32(0.5)), ours)
seen, ours = rows["bottom"]
parts = {"known": seen[:6, None], "mean": ours.mean[:6, None], "completions": ours.draws[:, :6].transpose(1, 0, 2, 3, 4)}
shown = {name: np.asarray(images, np.float32) for name, images in parts.items()}
stage.save(plots.groups(shown, "Several ways to go on"), asked.out / "inpainting.png")

# %%
# The older way is a chain: decode, encode, decode.  *Pseudo-Gibbs* (Rezende et al., 2014) takes the encoder's q for the posterior.  The
# encoder was never shown half an image, and what it gets wrong stays in the limit, however long the chain.  A test by Metropolis and
# Hastings for each step mends the limit (Mattei and Frellsen, 2018), and makes the way there long where the encoder's proposals are poor:
# few are accepted.  With two latents, where quadrature knows the answer, ``tests/applications/test_restore.py`` holds all three to it.

some, known = test[: stage.pick(asked, 20, 50, 200)], named_mask("bottom", test.shape, root.split("mask"))
sweeps = stage.pick(asked, 60, 200, 400)
exact = inpaint(clean, some, known, root.split("exact"), samples=1200, starts=3).mean
for name, metropolis in (("pseudo-Gibbs", False), ("Metropolis-within-Gibbs", True)):
    chain = gibbs(clean, some, known, root.split(name), sweeps, sweeps // 4, metropolis)
    off = float(np.sqrt(((chain.mean - exact)[:, ~known] ** 2).mean()))
    figure = psnr(chain.mean[:, ~known], some[:, ~known])
    print(f"{name}: {figure:.2f} dB, off the weighted mean by {off:.3f} (root of the mean square), accepted {chain.accepted:.0%}")

# %%
# A ceiling
# ---------
# Of sprites every image is known, so that the best of all denoisers is a sum: :math:`\mathrm E[x \mid y] = \sum_i x_i w_i / \sum_i w_i`,
# :math:`w_i = e^{-\|y - x_i\|^2 / 2 \sigma^2}`.  Nothing can beat it, and a VAE that knew the sprites perfectly would reach it.

every = Sprites()
at = np.flatnonzero((every.factors(np.arange(len(every)))[:, 2] == 0) & (np.arange(len(every)) % stage.pick(asked, 13, 5, 3) == 0))
sprites = every.images(at)[:, 1::2, 1::2]  # (N, 32, 32, 1)
model = trained(sprites, "a VAE of sprites", latent=6, epochs=stage.pick(asked, 30, 60, 150))
sigma, chosen = 1.0, root.split("sprites").permutation(len(sprites))[: stage.pick(asked, 40, 100, 300)]
truth = data.to_float(sprites[chosen])
y = truth + np.float32(sigma) * root.split("noise of sprites").normal(truth.shape)
flat, noisy = data.to_float(sprites).reshape(len(sprites), -1).astype(np.float64), y.reshape(len(y), -1).astype(np.float64)
logits = (noisy @ flat.T - 0.5 * (flat**2).sum(axis=1)) / sigma**2
weights = np.exp(logits - logits.max(axis=1, keepdims=True))
best = (weights @ flat / weights.sum(axis=1, keepdims=True)).reshape(truth.shape)
ours = denoise(model, y, root.split("denoise sprites"), sigma, samples=240, starts=6, gray=False)
spread = GaussianImages(data.to_float(sprites)).denoise(y, sigma)
figures = {"linear": psnr(spread, truth), "VAE": psnr(ours.mean, truth), "the best there is": psnr(best, truth)}
print(f"{len(sprites):,} sprites: " + ", ".join(f"{name} {value:.2f} dB" for name, value in figures.items()))
stage.claim(
    f"the VAE, {figures['VAE']:.2f} dB, is between the linear estimate, {figures['linear']:.2f}, and {figures['the best there is']:.2f} dB",
    figures["linear"] < figures["VAE"] < figures["the best there is"] + 0.1,
)
