"""Few labels: what the images without them are worth
====================================================

A label costs somebody's time, an image does not.  So the lectures promise: train a VAE on all images, and a few labels will do.  Four ways
to use both (D. P. Kingma et al., "Semi-supervised learning with deep generative models", 2014), beside the network that sees nothing but
the labelled images:

* *frozen* (M1): a head on the codes of a VAE that has seen all images;
* *fine-tuned*: the same, and the labels train the encoder too;
* *M2*: a class y and a code z make the image together, and where y is not known the bound sums over all classes;
* *M1+M2*: M2 on the codes of M1.

Which images have a label is chance, and with a hundred of them it matters: every figure below is a mean over several draws of labels, the
same number of each digit, with its standard error.  ``python demos/few_labels.py --out figures``; with ``--full`` a training that was cut
goes on where it stood.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import stage
from matplotlib.figure import Figure

from minivae import VAE, Stream, inference, plots
from minivae.applications import draw_codes, telling
from minivae.data import balanced, partly_labelled
from minivae.models import M2, Classifier, EncoderClassifier
from minivae.objectives import CrossEntropy, Elbo, SemiSupervised
from minivae.plots.layout import FAINT, INK, SMALL, TEXT, TITLE, calm

asked = stage.options(__doc__)
digits = stage.digits(asked)
counts = stage.pick(asked, (100, 500), (100, 1000), (100, 1000))
draws = stage.pick(asked, 3, 5, 5)
root = Stream(asked.seed)


def smaller(images: np.ndarray) -> np.ndarray:
    """Half as high and as wide where it must go fast: means of 2x2 pixels.     (N, H, W, 1) bytes -> (N, H / 2, W / 2, 1)"""
    n, height, width, _ = images.shape
    means = images.reshape(n, height // 2, 2, width // 2, 2).astype(np.float32).mean(axis=(2, 4))
    return means.round().astype(np.uint8)[..., None]


# %%
# Three parts: images to train on, images with labels by which settings are chosen, and the test set, which chooses nothing.

held = stage.pick(asked, 500, 500, 1000)
order = root.split("held out").permutation(len(digits.train_images))[: stage.pick(asked, 2500, None, None)]
shrink = (lambda images: images) if asked.full else smaller
images, labels = shrink(digits.train_images[order[held:]]), digits.train_labels[order[held:]]
held_images, held_labels = shrink(digits.train_images[order[:held]]), digits.train_labels[order[:held]]
test, test_labels = shrink(digits.test_images), digits.test_labels
shape = images.shape[1:]
chosen = {count: [balanced(labels, count, root.split(f"labels {count} {i}")) for i in range(draws)] for count in counts}
print(f"{len(images)} images to train on, {held} held out, {len(test)} to test; {draws} draws of {counts[0]} and of {counts[1]} labels")

vae = VAE(shape, root.split("weights"), latent=stage.pick(asked, 20, 20, 50), hidden=stage.pick(asked, (100,), (200,), (500, 500)))
size, epochs, lr, warmup = stage.pick(asked, (50, 20, 2e-3, 0), (50, 40, 2e-3, 0), (128, 20, 1e-3, 8))
schedule = stage.pick(asked, "constant", "constant", "cosine")
settings = {"batch_size": size, "lr": lr, "lr_schedule": schedule, "seed": asked.seed}
objective = Elbo(kl_warmup=warmup)  # what the KL silences at the beginning seldom comes back: with 50 latents it comes in slowly
stage.train(vae, images, epochs, objective=objective, name="VAE", file=stage.kept(asked, "few labels VAE"), **settings)
keep = telling(vae, images[:5000])
print(f"{keep.sum()} of {len(keep)} latents tell images apart")


# %%
# A way is a function of the places of the labels, of a setting, and of a seed; it returns a classifier and what it looks at.

Way = Callable[[np.ndarray, Any, int], tuple[Any, Callable[[np.ndarray], np.ndarray]]]


def supervised(model: Any, x: np.ndarray, at: np.ndarray, epochs: int, seed: int) -> Any:
    stage.train(model, x[at], epochs, labels[at], CrossEntropy(), batch_size=50, seed=seed)
    return model


def codes(x: np.ndarray) -> np.ndarray:
    return inference.encode_mean(vae, x)[:, keep]


known_codes = codes(images)


def scratch(at, epochs, seed):
    return supervised(EncoderClassifier(vae.config(), Stream(seed)), images, at, epochs, seed), lambda x: x


def frozen(at, epochs, seed):
    return supervised(Classifier((int(keep.sum()),), Stream(seed), arch="dense"), known_codes, at, epochs, seed), codes


def fine_tuned(at, epochs, seed):
    return supervised(EncoderClassifier.of(vae, Stream(seed)), images, at, epochs, seed), lambda x: x


def semi(
    model: M2, look: Callable[[np.ndarray, int], np.ndarray], at: np.ndarray, alpha: float, name: str, beta: float = 1.0, **how: Any
) -> M2:
    """One image in six has a label, because those that have are repeated; in the bound they count once."""
    repeats = max(1, round(len(images) / (5 * len(at))))
    x, told = partly_labelled(images, labels, at, repeats)
    name = f"{name}, {alpha:g}, beta {beta:g}, draw {how['seed']}"
    file = stage.kept(asked, f"few labels {name}")
    objective = SemiSupervised(alpha, repeats, beta)
    stage.train(model, lambda done: (look(x, done), told), objective=objective, name=name, file=file, lr_schedule=schedule, **how)
    return model


def m2(at, beta, seed):
    model = M2(shape, Stream(seed), latent=stage.pick(asked, 10, 10, 50), hidden=(stage.pick(asked, 64, 100, 300),))
    alpha, epochs, lr = stage.pick(asked, (10.0, 12, 2e-3), (10.0, 20, 2e-3), (100.0, 12, 1e-3))
    return semi(model, lambda x, done: x, at, alpha, "M2", beta, epochs=epochs, batch_size=100, lr=lr, seed=seed), lambda x: x


def m1_m2(at, alpha, seed):
    model = M2((int(keep.sum()),), Stream(seed), latent=10, hidden=(stage.pick(asked, 64, 100, 300),), likelihood="gaussian")
    fresh = root.split("codes")

    def drawn(x: np.ndarray, done: int) -> np.ndarray:  # of an image that is repeated another one each time
        return draw_codes(vae, x, fresh.split(f"{done}"), keep)

    epochs = stage.pick(asked, 12, 20, 25)
    return semi(model, drawn, at, alpha, "M1+M2", epochs=epochs, batch_size=100, lr=2e-3, seed=seed), codes


def error(found: tuple[Any, Callable[[np.ndarray], np.ndarray]], x: np.ndarray, y: np.ndarray) -> float:
    """The share of images in the wrong class, in per cent."""
    model, look = found
    return 100 * float((inference.classify(model, look(x)) != y).mean())


# %%
# Each way has one setting: how long it learns from the labels; the weight :math:`\alpha` of the classification of M1+M2; how dear
# :math:`\beta` makes the code of M2.  It is chosen by the held-out images, for the first draw of labels and each number of them.  (So many
# labels to choose by are a luxury that somebody with a hundred has not.  It is given to every way, the one without the VAE included.)

LONG, WEIGHTS = stage.pick(asked, (20, 80), (20, 60, 200), (20, 60, 200)), stage.pick(asked, (10.0,), (1.0, 10.0), (1.0, 10.0))
BETAS = stage.pick(asked, (1.0,), (1.0, 4.0), (1.0, 4.0))
ways: dict[str, tuple[Way, tuple]] = {
    "from scratch": (scratch, LONG),
    "frozen": (frozen, LONG),
    "fine-tuned": (fine_tuned, LONG),
    "M1+M2": (m1_m2, WEIGHTS),
    "M2": (m2, BETAS),
}
errors: dict[tuple[str, int], np.ndarray] = {}
models: dict[tuple[str, int], list] = {}
for name, (way, settings) in ways.items():
    for count in counts[:1] if name in ("M2", "M1+M2") else counts:
        first = {setting: way(chosen[count][0], setting, 0) for setting in settings}
        tried = {setting: error(found, held_images, held_labels) for setting, found in first.items()}
        best = min(settings, key=lambda setting: tried[setting])
        models[name, count] = [first[best], *(way(at, best, i) for i, at in enumerate(chosen[count]) if i)]
        errors[name, count] = np.array([error(found, test, test_labels) for found in models[name, count]])
        spread = errors[name, count].std(ddof=1) / np.sqrt(draws)
        by = ", ".join(f"{setting:g}: {value:.1f}" for setting, value in tried.items())
        print(
            f"{count:5d} labels, {name:12s} {errors[name, count].mean():5.1f} ± {spread:.1f} %   held out, by setting: {by} %", flush=True
        )


def ahead(one: str, other: str, count: int) -> tuple[float, float]:
    """How many points fewer errors, draw by draw, and the standard error."""
    difference = errors[other, count] - errors[one, count]
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(draws))


# %%
# The ways are compared draw by draw: a lucky draw is lucky for all of them.

few, many = counts
for one, other, count in (("M2", "from scratch", few), ("fine-tuned", "from scratch", few), ("fine-tuned", "from scratch", many)):
    gain, noise = ahead(one, other, count)
    stage.claim(f"{count} labels: {one} is ahead of {other} by {gain:.1f} ± {noise:.1f} points", gain > 2 * noise)
gain, noise = ahead("fine-tuned", "frozen", many)
text = f"{many} labels: the encoder should learn too, which gains {gain:.1f} ± {noise:.1f} points over a frozen one"
if asked.tiny:
    stage.claim(text, gain > 2 * noise)
else:  # a better VAE has better codes: frozen ones may do then
    print(text)
if asked.full:
    for name, limit in (("M2", 15), ("M1+M2", 6)):
        value = errors[name, few].mean()
        print(f"{few} labels, {name}: {value:.1f} %, and {limit} % or less is wanted")

figure = Figure(figsize=(8, 3.4), layout="constrained", facecolor="white")
ax = figure.add_subplot()
for i, name in enumerate(ways):
    there = [count for count in counts if (name, count) in errors]
    mean = [errors[name, count].mean() for count in there]
    spread = [errors[name, count].std(ddof=1) / np.sqrt(draws) for count in there]
    at = np.array([counts.index(count) + (i - (2 if count == few else 1)) * 0.12 for count in there])
    ax.errorbar(at, mean, spread, fmt="osD^v"[i], capsize=3, markersize=6, label=name)
    for where, count in zip(at, there, strict=True):
        ax.plot(np.full(draws, where), errors[name, count], ".", color=INK, alpha=0.3, markersize=4)
ax.set_xticks(range(len(counts)), [f"{count} labels" for count in counts], fontsize=TEXT)
ax.set_ylim(bottom=0)
ax.set_ylabel("test error in per cent", fontsize=TEXT, color=INK)
ax.set_title(f"Means over {draws} draws of labels, their standard errors, and each draw", fontsize=TITLE, color=INK)
ax.grid(color=FAINT, linewidth=0.7, axis="y")
figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", fontsize=SMALL, frameon=False)
calm(ax)
stage.save(figure, asked.out / "few_labels.png")

# %%
# What M2 has that no classifier has: it draws.  The handwriting z of one image, in all classes.

model, _ = models["M2", few][0]
z = inference.encode_mean(model, test[:6], labels=inference.classify(model, test[:6]))
rows = inference.decode_mean(model, np.repeat(z, 10, axis=0), labels=np.tile(np.arange(10), 6)).reshape(6, 10, *shape)
parts = {"image": test[:6, None] / np.float32(255), "its handwriting in all classes": rows}
stage.save(plots.groups(parts, f"M2 with {few} labels"), asked.out / "few_labels_drawn.png")
