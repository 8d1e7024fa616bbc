"""Colours for gray images
======================

A gray picture leaves its colours open.  A network that is trained to say them by least squares says their mean, which is mud; a conditional
VAE draws: :math:`z \\sim p(z \\mid L)`, then the colours by :math:`p(a, b \\mid z, L)`, and each :math:`z` is another colouring.  Here it
is asked whether the draws are *right*: on digits whose colours have a known distribution, and then, with less to hold on to, on photos.

Colours are CIE :math:`L^* a^* b^*`.  The lightness :math:`L^*` is what a gray picture has; :math:`a^*` and :math:`b^*` are wanted, at half
the resolution.  ``python demos/colour.py --out figures``; with ``--full --data-dir FOLDER`` MNIST's files are in ``FOLDER``, and if it has
a folder ``photos``, they take the place of the seven that come with scikit-image and scikit-learn.
"""

from pathlib import Path
from typing import Any

import numpy as np
import skimage
import stage
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import chi2
from sklearn.datasets import load_sample_images

from minivae import Stream, inference, no_grad, plots
from minivae.applications import colorize
from minivae.data import batch_indices
from minivae.data.colour import CHROMA, coloured, lightness_and_chroma
from minivae.data.coloured_digits import colour_table, coloured_digits, draw_colours, palette
from minivae.distributions import Gaussian
from minivae.evaluate.colour import best_of, colourfulness
from minivae.models import CVAE, MixtureCVAE
from minivae.nn import Dense, Flatten, Reshape, Sequential
from minivae.objectives import elbo
from minivae.plots.layout import FAINT, INK, SMALL, TEXT, TITLE, calm
from minivae.training import Trainer, TrainingConfig

asked = stage.options(__doc__)
root = Stream(asked.seed)


# %%
# Digits in six colours of one lightness: :math:`L^*` is the same to the last bit whatever the colour, and the class says how likely each
# of them is.  A favourite has 0.5, the opposite colour 0.3, the others 0.05 each.


def smaller(images: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels.     (N, H, W, 1) bytes -> (N, H / 2, W / 2, 1)"""
    n, height, width, _ = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2).astype(np.float32).mean(axis=(2, 4)).round().astype(np.uint8)[..., None]


digits = stage.digits(asked)
classes = stage.pick(asked, 2, 10, 10)
table, colours = colour_table(classes), palette()
K = len(colours)
parts = []
for images, labels in ((digits.train_images, digits.train_labels), (digits.test_images, digits.test_labels)):
    keep = labels < classes
    parts.append((coloured_digits(smaller(images[keep]), labels[keep], root.split("colours"), table), labels[keep]))
(train, labels), (test, test_labels) = parts
gray, test_gray = (part.lightness.reshape(len(part.lightness), -1) for part in (train, test))
entropy = float(-(table * np.log(table)).sum(axis=1)[test_labels].mean())
print(f"{len(gray):,} digits of {classes} classes, {len(test_gray):,} to test; H(colour | class) = {entropy:.4f} nats, log 6 = {np.log(K):.4f}")

# %%
# What the model says of a colour is its *name*: each block of 2x2 pixels has one of six, as six bits of which one is set.  So the
# likelihood is a probability and no density, and the bound has an entropy to be held against,
#
# .. math:: -\mathrm{ELBO} \ge -\log p(x \mid L) \quad\Rightarrow\quad E[-\mathrm{ELBO}] \ge H(\text{colour} \mid \text{class}),
#
# with no constant in between: blocks are independent given z, all 49 have one name, and nothing but z can tell it to them.
# Without z each block pays the entropy for itself, 49 times.


def names(colour: np.ndarray) -> np.ndarray:
    """(N,) -> (N, 7, 7, 6), of zeros and ones"""
    return np.broadcast_to(np.eye(K, dtype=np.float32)[colour][:, None, None], (len(colour), 7, 7, K)).copy()


hidden = stage.pick(asked, (50, 16), (100, 32), (200, 32))
epochs = stage.pick(asked, 25, 80, 14)


def taught(model: Any, name: str) -> Any:
    """Each epoch has colours of its own, drawn from the table."""
    trainer = Trainer(model, TrainingConfig(epochs=epochs, batch_size=100, lr=3e-3, lr_schedule="cosine", seed=asked.seed))
    for i in range(epochs):
        report = trainer.epoch(names(draw_colours(labels, root.split(f"colours of epoch {i}"), table)), gray)
    print(f"{name}: {report['loss']:.3f} nats in training, {report['kl']:.3f} of them KL")
    return model


options = {"condition": gray.shape[1], "latent": 2, "hidden": hidden}
priors = {
    "one Gaussian": taught(CVAE((7, 7, K), root.split("one"), prior_kind="learned", **options), "p(z | L) one Gaussian"),
    "a mixture": taught(MixtureCVAE((7, 7, K), root.split("mixture"), components=8, **options), "p(z | L) a mixture of eight"),
}


def bounds(model: Any) -> np.ndarray:
    """-ELBO of each test digit, its six colours weighted by their probabilities.     -> (N,)"""
    total, noise = np.zeros(len(test_gray)), root.split("bound")
    for k in range(K):
        x = names(np.full(len(test_gray), k))
        for at in batch_indices(len(x), 500):
            with no_grad():
                terms = elbo(model, x[at], noise, label=test_gray[at])
            total[at] += table[test_labels[at], k] * (terms.reconstruction + terms.kl).numpy()
    return total


def drawn(model: Any, draws: int, name: str) -> np.ndarray:
    """Shares of the names in digits that z makes of the gray pictures.     -> (draws, N, 6)"""
    found = [inference.sample(model, root.split(f"{name} {i}"), len(test_gray), test_gray).mean(axis=(1, 2)) for i in range(draws)]
    return np.stack(found) / np.sum(found, axis=-1, keepdims=True)


# %%
# A draw counts for the colour that it has most of.  The counts of each class are held against the table by chi-square, all classes
# together, 5 degrees of freedom each.  The model has seen gray pictures and no labels.

per = stage.pick(asked, 5, 2, 1)
counts, costs = {}, {}
for name, model in priors.items():
    shares = drawn(model, per, name)
    most = shares.argmax(axis=-1)
    counts[name] = np.zeros((classes, K))
    np.add.at(counts[name], (np.broadcast_to(test_labels, most.shape), most), 1)
    expected = counts[name].sum(axis=1, keepdims=True) * table
    statistic, freedom = ((counts[name] - expected) ** 2 / expected).sum(), classes * (K - 1)
    p = chi2.sf(statistic, freedom)
    pure = (shares.max(axis=-1) > 0.9).mean()
    nats = bounds(model)
    costs[name] = nats.mean(), nats.std() / len(nats) ** 0.5, p
    print(
        f"{name}: -ELBO {nats.mean():.4f} ± {costs[name][1]:.4f} nats; {most.size:,} draws, chi-square {statistic:.1f} of {freedom}, "
        f"p = {p:.2g}; {pure:.1%} of the draws are of one colour"
    )
    stage.claim(f"{name}: -ELBO is at or above the entropy, {nats.mean():.4f} >= {entropy:.4f}", nats.mean() > entropy - 3 * costs[name][1])
    if name == "a mixture":
        stage.claim(f"the mixture's {most.size:,} draws have the table's distribution, p = {p:.2g}", p > 0.01)
        stage.claim(f"{pure:.1%} of them are of one colour", pure > 0.95)
gained = costs["one Gaussian"][0] - costs["a mixture"][0]
stage.claim(f"a mixture for a prior is worth {gained:.2f} nats: one Gaussian covers what lies between the colours as well", gained > 0.1)
