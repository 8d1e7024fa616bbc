"""A book of vectors: what a discrete code costs, and how much of the book is used
==================================================================================

A VQ-VAE (A. van den Oord et al., 2017) rounds what the encoder says to the nearest entries of a book.  The code of an image is then a
row of whole numbers.  Under a uniform prior it costs :math:`G \\log M` nats, for every image the same; the bound on :math:`-\\log P(x)` is
that and the reconstruction.  How many entries are really in use is their *perplexity*, the exponential of the entropy of how often each is
chosen.  ``python demos/codebook.py --out figures``
"""

import math

import numpy as np
import stage

from minivae import Stream, data, inference, losses, no_grad, plots
from minivae.models import VQVAE, perplexity
from minivae.objectives import VectorQuantization

asked = stage.options(__doc__)
digits = stage.digits(asked)
root = Stream(asked.seed)
epochs, hidden, batch, lr = stage.pick(asked, (10, 100, 64, 3e-3), (40, 400, 64, 1e-3), (20, 400, 128, 1e-3))
groups, entries = 10, 32
model = VQVAE(digits.image_shape, root.split("weights"), latent=20, groups=groups, entries=entries, hidden=(hidden,))
objective = VectorQuantization()
reports = stage.train(model, digits.train_images, epochs, objective=objective, batch_size=batch, lr=lr, seed=asked.seed, name="a VQ-VAE")
test = losses(model, digits.test_images, objective=objective)
nats = groups * math.log(entries)
print(f"test: {test['reconstruction']:.1f} nats of reconstruction and {test['kl']:.2f} for the code: {groups} of {entries} entries")
stage.claim(f"the code costs G log M = {nats:.2f} nats", math.isclose(test["kl"], nats, rel_tol=1e-5))
stage.claim(
    f"it says something: the reconstruction fell from {reports[0]['reconstruction']:.1f} to {reports[-1]['reconstruction']:.1f} nats",
    reports[-1]["reconstruction"] < 0.85 * reports[0]["reconstruction"],
)

# %%
# How much of the book is in use?  Counted over the data.  Counted over a batch, as training loops often print it, it is less, and depends
# on the batch: 16 images cannot use more than 16 entries.

with no_grad():
    chosen = model.indices(data.to_float(digits.train_images[:4000]))
whole = perplexity(chosen, entries)
batches = np.mean([perplexity(part, entries) for part in np.split(chosen[:3200], 200)])
print("perplexity of each group: " + ", ".join(f"{p:.1f}" for p in whole) + f"; in batches of 16, {batches:.1f} in the mean")
stage.claim(f"a batch of 16 tells {batches:.1f} where the data have {whole.mean():.1f}", batches < whole.mean() and whole.max() <= entries)

# %%
# So a prior that knows how often each entry is used sends the code in less: its cross-entropy on test images, by counts of training ones.

counts = np.stack([np.bincount(column, minlength=entries) for column in chosen.T]) + 1.0
known = -np.log(counts / counts.sum(axis=1, keepdims=True))
with no_grad():
    of_test = model.indices(data.to_float(digits.test_images[:2000]))
cost = known[np.arange(groups), of_test].sum(axis=1)
stage.claim(f"a prior that counts needs {cost.mean():.2f} nats instead of {nats:.2f}", cost.mean() < nats)

# %%
# Draws from the uniform prior join entries that never stand together; images from the counts of each group are only little better.  The
# groups depend on each other, and a prior that knows how is a model of its own: the paper trains a PixelCNN.

draws = root.split("counts")
rows = np.stack([np.searchsorted(np.cumsum(c / c.sum()), draws.uniform(24, like=np.zeros(0))) for c in counts], axis=1)
by_counts = model.book.data[np.minimum(rows, entries - 1)].reshape(24, -1)
parts = {
    "test digits": data.to_float(digits.test_images[:24]),
    "rounded": inference.reconstruct(model, digits.test_images[:24]),
    "uniform prior": inference.sample(model, root.split("draws"), 24),
    "counts": inference.decode_mean(model, by_counts),
}
shown = {name: images.reshape(4, 6, *digits.image_shape) for name, images in parts.items()}
stage.save(plots.groups(shown, f"Codes of {groups} whole numbers"), asked.out / "codebook.png")
