"""Colours for gray digits: are the draws right?
=============================================

A gray digit leaves its colour open.  A conditional VAE draws it: :math:`z \\sim p(z \\mid L)`, then the colour by
:math:`p(x \\mid z, L)`, where :math:`L` is the gray picture.  Do its colours come as often as they should?  On digits whose colour has
a known distribution this can be asked of chi-square, once it is settled how many draws make an honest question.

``python demos/colour_digits.py --out figures``; with ``--full`` it is all ten classes, and MNIST's files are in ``--data-dir FOLDER``.
"""

from typing import Any

import numpy as np
import stage
from matplotlib.figure import Figure

from minivae import Stream, inference, no_grad, plots
from minivae.data import batch_indices
from minivae.data.colour import CHROMA, coloured
from minivae.data.coloured_digits import colour_table, coloured_digits, draw_colours, palette
from minivae.data.oriented import oriented_gradients
from minivae.distributions import Gaussian, WeightedMixture
from minivae.evaluate.frequencies import chi_square, draws_needed
from minivae.models import MixtureCVAE
from minivae.nn import Dense, Sequential
from minivae.objectives import elbo
from minivae.plots.layout import INK, SMALL, TEXT, calm
from minivae.training import Trainer, TrainingConfig

asked = stage.options(__doc__)
root = Stream(asked.seed)

# %%
# Six colours of one lightness: the gray picture is the same to the last bit whatever the colour.  How likely each is, the class of the
# digit says: its favourite 0.5, the opposite one 0.3, the others 0.05 each.  No model is told a class.  It sees the gray picture, as the
# directions of its edges in 7x7 cells.

digits = stage.digits(asked)
classes = stage.pick(asked, 2, 4, 10)
table, colours = colour_table(classes), palette()
K = len(colours)
parts = []
for images, labels in ((digits.train_images, digits.train_labels), (digits.test_images, digits.test_labels)):
    images, labels = images[labels < classes], labels[labels < classes]
    parts.append(
        (coloured_digits(images, labels, root.split("colours"), table), oriented_gradients(images).reshape(len(images), -1), labels)
    )
(train, seen, labels), (test, test_seen, test_labels) = parts
shares = np.bincount(test_labels) / len(test_labels)
entropy = float(shares @ -(table * np.log(table)).sum(axis=1))
print(f"{len(seen):,} digits of {classes} classes, {len(test_seen):,} to test; H(colour | class) = {entropy:.4f} nats of {np.log(K):.4f}")

# %%
# How many draws?  With few of them a test lets everything pass.  So these are the answers that it must reject, each with a probability of
# 0.99 at the level of 1%: colours that know nothing of the class; one colour for all digits of a class; colours one and a third as
# undecided as they should be (a temperature of 1.3).


def warmer(table: np.ndarray, temperature: float) -> np.ndarray:
    return table ** (1 / temperature) / (table ** (1 / temperature)).sum(axis=1, keepdims=True)


wrong = {
    "no class": np.tile(shares @ table, (classes, 1)),
    "one colour": np.eye(K)[table.argmax(axis=1)],
    "temperature 1.3": warmer(table, 1.3),
}
needed = {name: draws_needed(table, answer, shares) for name, answer in wrong.items()}
draws = max(needed.values())
order = root.split("which").permutation(len(test_labels))
of_class = [order[test_labels[order] == c] for c in range(classes)]
at = np.concatenate([np.resize(some, int(np.ceil(draws * share))) for some, share in zip(of_class, shares, strict=True)])  # over and over
print("draws needed: " + ", ".join(f"{name} {n:,}" for name, n in needed.items()) + f"; so {len(at):,} of {len(np.unique(at)):,} digits")

# %%
# What the model says of a colour is its *name*: each of 7x7 blocks has one of six, six bits of which one is set.  So the likelihood is a
# probability and no density, and the bound has an entropy to be held against,
#
# .. math:: -\mathrm{ELBO} \ge -\log p(x \mid L) \quad\Rightarrow\quad E[-\mathrm{ELBO}] \ge H(\text{colour} \mid \text{class}),
#
# with no constant in between: blocks are independent given z, all 49 have one name, and nothing but z can tell it to them.
# The prior's components start, after a first round, at codes that lie far from each other, or two colours might share one of them.

epochs, batch, first = stage.pick(asked, (160, 50, 20), (200, 50, 10), (40, 100, 1))


def names(colour: np.ndarray) -> np.ndarray:
    """(N,) -> (N, 7, 7, 6), of zeros and ones"""
    return np.broadcast_to(np.eye(K, dtype=np.float32)[colour][:, None, None], (len(colour), 7, 7, K)).copy()


def taught(components: int, name: str) -> MixtureCVAE:
    """Each epoch has colours of its own, drawn from the table."""
    model = MixtureCVAE(
        (7, 7, K), root.split("weights"), condition=seen.shape[1], components=components, prior_hidden=(200,), latent=2, hidden=(32,)
    )
    trainer = Trainer(model, TrainingConfig(epochs=epochs, batch_size=batch, lr=3e-3, lr_schedule="cosine", seed=asked.seed))
    for i in range(epochs):
        x = names(draw_colours(labels, root.split(f"colours of epoch {i}"), table))
        if i == first:
            model.start_from(x[:2000], seen[:2000], root.split("components"))
        report = trainer.epoch(x, seen)
    print(f"{name}: {report['loss']:.3f} nats in training, {report['kl']:.3f} of them KL")
    return model


models = {"one Gaussian": taught(1, "p(z | L) one Gaussian"), "a mixture": taught(12, "p(z | L) a mixture of twelve")}

# %%
# A draw counts for the colour that it has most of.


def bounds(model: MixtureCVAE) -> np.ndarray:
    """-ELBO of each test digit, its six colours weighted by their probabilities.     -> (N,)"""
    total, noise = np.zeros(len(test_seen)), root.split("bound")
    for k in range(K):
        x = names(np.full(len(test_seen), k))
        for some in batch_indices(len(x), 500):
            with no_grad():
                terms = elbo(model, x[some], noise, label=test_seen[some])
            total[some] += table[test_labels[some], k] * (terms.reconstruction + terms.kl).numpy()
    return total


def drawn(model: MixtureCVAE, seen: np.ndarray, name: str, temperature: float = 1.0) -> np.ndarray:
    """Shares of the names in what z makes of gray digits, z from the prior, its weights at a temperature.     -> (N, 6)"""
    with no_grad():
        prior = model.condition(seen).prior
    z = WeightedMixture(prior.logits / temperature, prior.components.mean, prior.components.logvar).sample(root.split(name))
    found = inference.decode_mean(model, z.numpy(), seen).mean(axis=(1, 2))
    return found / found.sum(axis=-1, keepdims=True)


def counted(labels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """How often each class has each colour.     (N,), (N,) -> (C, 6)"""
    counts = np.zeros((classes, K))
    np.add.at(counts, (labels, colour), 1)
    return counts


drawn_labels, counts, nats = test_labels[at], {}, {}
for name, model in models.items():
    mixed, nats[name] = drawn(model, test_seen[at], "draws"), bounds(model)
    counts[name], pure = counted(drawn_labels, mixed.argmax(axis=-1)), (mixed.max(axis=-1) > 0.9).mean()
    found, cost, error = chi_square(counts[name], table), nats[name].mean(), nats[name].std() / len(nats[name]) ** 0.5
    print(
        f"{name}: {pure:.2%} of {len(at):,} draws are of one colour; chi-square {found.statistic:.1f} of {found.freedom}, p = {found.p:.2g}"
    )
    stage.claim(f"{name}: -ELBO is at or above the entropy, {cost:.4f} ± {error:.4f} >= {entropy:.4f}", cost > entropy - 3 * error)
stage.claim(f"{len(at):,} draws have the table's distribution: p = {found.p:.2g}", found.p > 0.01)
gained = np.median(nats["one Gaussian"] - nats["a mixture"])  # the mean hangs on the few digits of which one Gaussian is far too sure
stage.claim(
    f"a mixture for a prior is worth {gained:.2f} nats (median): one Gaussian covers what lies between the colours as well", gained > 0.1
)
stage.claim(f"{pure:.2%} of the mixture's draws are of one colour", pure > 0.98)
if len(at) < len(test_labels):
    found = chi_square(counted(test_labels, drawn(model, test_seen, "all").argmax(axis=-1)), table)
    print(f"one draw for each of {len(test_labels):,} digits: chi-square {found.statistic:.1f} of {found.freedom}, p = {found.p:.2g}")

# %%
# And what must be rejected, is.  The first and the last are this model too: given another digit's picture, and with the weights of its
# prior at a temperature of 1.3.  Regression, a network trained by squared error to say a* and b*, answers with the mean of the six colours,
# which is none of them; the nearest counts.

net = Sequential(Dense(seen.shape[1], 100, root.split("regression"), "silu"), Dense(100, 2, root.split("its end")))
ab = (colours / CHROMA).astype(np.float32)
stage.fit(
    net, lambda i: Gaussian(net(seen[i]), 0.0, 1).log_prob(ab[train.colour[i]]), len(seen), stage.pick(asked, 20, 20, 4), root.split("fit")
)
with no_grad():
    said = net(test_seen).numpy() * CHROMA  # a*, b*
away = np.linalg.norm(said[:, None] - colours, axis=-1)  # (N, 6)
answers = {
    "no class": drawn(model, test_seen[root.split("others").permutation(len(test_labels))[at]], "rolled").argmax(axis=-1),
    "one colour": away.argmin(axis=1)[at],
    "temperature 1.3": drawn(model, test_seen[at], "warmer", 1.3).argmax(axis=-1),
}
for name, colour in answers.items():
    found = chi_square(counted(drawn_labels, colour), table)
    stage.claim(f"{name}: rejected, chi-square {found.statistic:.1f}, p = {found.p:.2g}", found.p < 0.01)
print(f"chroma of the six {np.hypot(*colours.T).mean():.0f}, of what regression says {np.hypot(*said.T).mean():.1f}")
stage.claim(f"regression's colour is {away.min(axis=1).mean():.0f} from the nearest of the six, the draws' 0", away.min(axis=1).mean() > 20)

# %%
# The pictures: gray digits, regression's answer, and draws.

strength = test.lightness.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))[..., None] / 0.7  # of the colour in each block of 2x2 pixels


def painted(ab: np.ndarray, i: np.ndarray) -> np.ndarray:
    """Digits i in these colours.     a*, b* (S, len(i), 2) -> (len(i), S, 28, 28, 3)"""
    return coloured(test.lightness[i], (ab / CHROMA)[..., None, None, :] * strength[i]).rgb.swapaxes(0, 1)


i = np.array([np.flatnonzero(test_labels == c)[0] for c in range(classes)])[:8]
eight = np.stack([drawn(model, test_seen[i], f"picture {j}") for j in range(8)]) @ colours
columns = {"gray": painted(np.zeros((1, len(i), 2)), i), "regression": painted(said[None, i], i), "eight draws": painted(eight, i)}
stage.save(plots.groups(columns, "One gray digit: one answer that is none, or several that are"), asked.out / "colour_digits.png")

solid = coloured(np.full((K, 1, 1, 1), 0.7), colours[:, None, None] / CHROMA).rgb[:, 0, 0]
rows = -(-classes // 5)
figure = Figure(figsize=(8, 1.9 * rows + 0.7), layout="constrained", facecolor="white")
axes: Any = figure.subplots(rows, min(5, classes), squeeze=False, sharey=True)
for c, ax in zip(range(classes), axes.ravel(), strict=False):
    share = {name: counts[name][c] / counts[name][c].sum() for name in models}
    ax.bar(range(K), share["a mixture"], color=solid, edgecolor=INK, linewidth=0.6, label="draws, a mixture")
    ax.scatter(range(K), table[c], marker="_", s=160, color="black", linewidth=2, label="p(colour | class)", zorder=3)
    ax.scatter(range(K), share["one Gaussian"], marker="x", s=18, color=INK, linewidth=1, label="draws, one Gaussian", zorder=3)
    ax.set_title(f"digit {c}", fontsize=TEXT, color=INK)
    ax.set_xticks([])
    calm(ax)
figure.supylabel("share of the draws", fontsize=TEXT, color=INK)
figure.legend(*axes[0, 0].get_legend_handles_labels(), fontsize=SMALL, frameon=False, loc="outside lower center", ncols=3)
stage.save(figure, asked.out / "colour_frequencies.png")
