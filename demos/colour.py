"""Colours for gray images
=======================

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
from minivae.distributions import Categorical, Gaussian
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
classes = stage.pick(asked, 2, 2, 4)
table, colours = colour_table(classes), palette()
K = len(colours)
parts = []
for images, labels in ((digits.train_images, digits.train_labels), (digits.test_images, digits.test_labels)):
    keep = labels < classes
    parts.append((coloured_digits(smaller(images[keep]), labels[keep], root.split("colours"), table), labels[keep]))
(train, labels), (test, test_labels) = parts
gray, test_gray = (part.lightness.reshape(len(part.lightness), -1) for part in (train, test))
entropy = float(-(table * np.log(table)).sum(axis=1)[test_labels].mean())
print(f"{len(gray):,} digits of {classes} classes, {len(test_gray):,} to test; H(colour | class) = {entropy:.4f} nats of {np.log(K):.4f}")

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


hidden = stage.pick(asked, (50, 16), (50, 16), (200, 32))
epochs, batch, lr = stage.pick(asked, (100, 50, 5e-3), (100, 50, 5e-3), (16, 100, 3e-3))


def taught(model: Any, name: str) -> Any:
    """Each epoch has colours of its own, drawn from the table."""
    trainer = Trainer(model, TrainingConfig(epochs=epochs, batch_size=batch, lr=lr, lr_schedule="cosine", seed=asked.seed))
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
# together, 5 degrees of freedom each; and once more by what a classifier reads in the gray picture, which is all that the model has of
# the class: it never sees a label.

per = stage.pick(asked, 5, 5, 1)
at = np.arange(min(len(test_gray), 2000))
reader = Sequential(Dense(gray.shape[1], 200, root.split("reader"), "relu"), Dense(200, classes, root.split("reader's end")))
stage.fit(
    reader, lambda i: Categorical(reader(gray[i])).log_prob(labels[i]), len(gray), stage.pick(asked, 10, 10, 5), root.split("reading")
)
with no_grad():
    read = reader(test_gray).numpy().argmax(axis=1)
print(f"a classifier reads {(read == test_labels).mean():.1%} of the test digits")


def against(known: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Counts of the colours of each class, the statistic, and its p.     (N,), (draws, N) -> (C, 6), chi-square, p"""
    counts = np.zeros((classes, K))
    np.add.at(counts, (np.broadcast_to(known, most.shape), most), 1)
    expected = counts.sum(axis=1, keepdims=True) * table
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return counts, statistic, float(chi2.sf(statistic, classes * (K - 1)))


counts, costs = {}, {}
for name, model in priors.items():
    shares = drawn(model, per, name)
    most, pure = shares.argmax(axis=-1), (shares.max(axis=-1) > 0.9).mean()
    nats = bounds(model)
    costs[name] = cost, error = nats.mean(), nats.std() / len(nats) ** 0.5
    print(f"{name}: -ELBO {cost:.4f} ± {error:.4f} nats; {pure:.1%} of the draws are of one colour; degrees of freedom {5 * classes}")
    for who, known in (("label", test_labels), ("class that is read", read)):
        for some in (at, np.arange(len(test_gray))) if len(at) < len(test_gray) else (at,):
            counts[name, who], statistic, p = against(known[some], most[:, some])
            print(f"  {per * len(some):,} draws, by the {who}: chi-square {statistic:.1f}, p = {p:.2g}")
            if name == "a mixture" and not asked.full:  # of four classes they are rejected: see the page on colours
                stage.claim(f"{per * len(at):,} draws have the table's distribution, by the {who}: p = {p:.2g}", p > 0.01)
    stage.claim(f"{name}: -ELBO is at or above the entropy, {cost:.4f} >= {entropy:.4f}", cost > entropy - 3 * error)
stage.claim(f"{pure:.1%} of the mixture's draws are of one colour", pure > 0.95)
gained = costs["one Gaussian"][0] - costs["a mixture"][0]
stage.claim(f"a mixture for a prior is worth {gained:.2f} nats: one Gaussian covers what lies between the colours as well", gained > 0.1)

# %%
# Regression, the same network trained by squared error to say a* and b*, answers with the mean of the six, and that is none of them.

chroma_net = Sequential(
    Flatten(), Dense(gray.shape[1], 200, root.split("regression"), "relu"), Dense(200, 98, root.split("its end")), Reshape(7, 7, 2)
)
stage.fit(
    chroma_net,
    lambda i: Gaussian(chroma_net(train.lightness[i]), 0.0, 3).log_prob(train.chroma[i]),
    len(gray),
    stage.pick(asked, 20, 20, 5),
    root.split("regressing"),
)
with no_grad():
    guess = chroma_net(test.lightness).numpy()
strength = test.lightness.reshape(-1, 7, 2, 7, 2).mean(axis=(2, 4))[..., None] / 0.7  # of the colour in each block
said = CHROMA * (guess * strength).sum(axis=(1, 2)) / (strength**2).sum(axis=(1, 2))  # a*, b* of the whole digit, by least squares
away = np.linalg.norm(said[:, None] - colours, axis=-1).min(axis=1)
means = table @ colours
print(f"chroma of the six {np.hypot(*colours.T).mean():.0f}, of their mean {np.hypot(*means.T).mean():.0f}, of what regression says "
      f"{np.hypot(*said.T).mean():.1f}")  # fmt: skip
stage.claim(f"regression's colour is {away.mean():.0f} from the nearest of the six, the draws' 0", away.mean() > 20)

# %%
# The pictures: gray digits, regression's answer, and draws.


def shades(shares: np.ndarray, i: np.ndarray) -> np.ndarray:
    """Digits i in the mean of the six colours by these shares.     (..., len(i), 6) -> (..., len(i), 14, 14, 3)"""
    ab = (shares @ colours / CHROMA)[..., None, None, :] * strength[i]
    return coloured(test.lightness[i], ab).rgb


i = np.array([np.flatnonzero(test_labels == c)[0] for c in range(classes)])[:8]
eight = drawn(priors["a mixture"], 8, "pictures")[:, i]
columns = {
    "gray": coloured(test.lightness[i], np.zeros((len(i), 7, 7, 2))).rgb[:, None],
    "regression": coloured(test.lightness[i], guess[i]).rgb[:, None],
    "eight draws": shades(eight, i).swapaxes(0, 1),
}
stage.save(plots.groups(columns, "One gray digit: one answer that is none, or several that are"), asked.out / "colour_digits.png")

solid = coloured(np.full((K, 1, 1, 1), 0.7), colours[:, None, None] / CHROMA).rgb[:, 0, 0]
show = range(min(classes, 10))
figure = Figure(figsize=(8, 1.9 * -(-len(show) // 5) + 0.5), layout="constrained", facecolor="white")
for c, ax in zip(show, figure.subplots(-(-len(show) // 5), min(5, len(show)), squeeze=False, sharey=True).ravel(), strict=False):
    share = {name: counts[name, "label"][c] / counts[name, "label"][c].sum() for name in priors}
    ax.bar(range(K), share["a mixture"], color=solid, edgecolor=INK, linewidth=0.6, label="draws, a mixture")
    ax.scatter(range(K), table[c], marker="_", s=160, color="black", linewidth=2, label="p(colour | class)", zorder=3)
    ax.scatter(range(K), share["one Gaussian"], marker="x", s=18, color=INK, linewidth=1, label="draws, one Gaussian", zorder=3)
    ax.set_title(f"digit {c}", fontsize=TEXT, color=INK)
    ax.set_xticks([])
    calm(ax)
figure.supylabel("share of the draws", fontsize=TEXT, color=INK)
figure.legend(*ax.get_legend_handles_labels(), fontsize=SMALL, frameon=False, loc="outside lower center", ncols=3)
stage.save(figure, asked.out / "colour_frequencies.png")

# %%
# Photos.  Seven are next to nothing: what a model learns from five of them is these five.  They are split by photo, so that no patch of
# a photo of the test was trained on; with a folder of your own a quarter of its pictures is the test.

FOLDER = Path(skimage.__file__).parent / "data"
TRAIN, TEST = ("coffee.png", "rocket.jpg", "motorcycle_left.png"), ("astronaut.png", "chelsea.png")
LARGEST = 256  # pixels of a photo's longer side, so that a patch of 32 has something on it


def reduced(image: Image.Image) -> np.ndarray:
    image = image.convert("RGB")
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(image)


folder = asked.data_dir / "photos" if asked.data_dir and (asked.data_dir / "photos").is_dir() else None
if folder:
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in (".png", ".jpg", ".jpeg"))
    every = [p for p in (reduced(Image.open(f)) for f in files) if min(p.shape[:2]) >= 32]
    learnt, unseen = [p for j, p in enumerate(every) if j % 4], every[::4]
else:
    learnt = [reduced(Image.fromarray(p)) for p in load_sample_images().images] + [reduced(Image.open(FOLDER / name)) for name in TRAIN]
    unseen = [reduced(Image.open(FOLDER / name)) for name in TEST]


def patches(photos: list[np.ndarray], count: int, name: str) -> np.ndarray:
    """Of 32x32 pixels at random places, half of them mirrored, as many from each photo.     -> (count, 32, 32, 3) bytes"""
    u = root.split(name).uniform((count, 3))
    found = []
    for j, (down, right, mirror) in enumerate(u):
        p = photos[j % len(photos)]
        row, column = int(down * (p.shape[0] - 31)), int(right * (p.shape[1] - 31))
        found.append(p[row : row + 32, column : column + 32][:, :: -1 if mirror < 0.5 else 1])
    return np.stack(found)


count, tests, draws = stage.pick(asked, (400, 60, 10), (4000, 300, 20), (12000, 500, 20))
rgb_test = patches(unseen, tests, "test patches")
(light, chroma), (light_test, chroma_test) = (lightness_and_chroma(p) for p in (patches(learnt, count, "patches"), rgb_test))
print(f"{count:,} patches of {len(learnt)} photos; {tests} of {len(unseen)} others to test")

# %%
# L* of 32x32 pixels -> a*, b* of 16x16, 32 latents, a Laplace likelihood whose scale is learned, from the data's own on.  Not ReLUs: all
# of a thousand inputs are positive, and a few steps in one direction leave such a layer dead.

wide = stage.pick(asked, 64, 256, 256)
model = MixtureCVAE(
    (16, 16, 2), root.split("photos"), condition=1024, components=8, latent=32, hidden=(wide,), likelihood="laplace", activation="silu"
)
model.log_scale.data[...] = np.log(abs(chroma - np.median(chroma, axis=0)).mean())
rounds, batch = stage.pick(asked, (40, 50), (12, 100), (12, 100))
report = stage.train(
    model, chroma, rounds, light.reshape(count, -1), name="photos", batch_size=batch, lr_schedule="cosine", seed=asked.seed
)
print(f"KL {report[-1]['kl']:.1f} nats, scale {CHROMA * np.exp(float(model.log_scale.data)):.1f} of a* and b*")
net = Sequential(
    Flatten(),
    Dense(1024, wide, root.split("net"), "silu"),
    Dense(wide, wide, root.split("net, 2"), "silu"),
    Dense(wide, 512, root.split("net, 3")),
    Reshape(16, 16, 2),
)
stage.fit(
    net,
    lambda i: Gaussian(net(light[i]), 0.0, 3).log_prob(chroma[i]),
    count,
    rounds // stage.pick(asked, 4, 1, 1),
    root.split("photos, order"),
)

# %%
# A draw is judged by the distance of its colours from the photo's, root mean square of (a*, b*) over a patch, and the best of k draws by
# the nearest.  That alone any scatter of colours improves with k; so beside it stand the colours of k patches of the training photos,
# taken blindly.


def distance(ab: np.ndarray) -> np.ndarray:
    """(..., N, 16, 16, 2) -> (..., N), in units of a* and b*"""
    return CHROMA * np.sqrt(((ab - chroma_test) ** 2).sum(axis=-1).mean(axis=(-2, -1)))


gray_bytes = np.rint(255 * coloured(light_test, 0 * chroma_test).rgb[..., 1]).astype(np.uint8)
found = colorize(model, gray_bytes, root.split("colorize"), draws)
blind = chroma[root.split("blind").permutation(draws * tests)[: draws * tests] % count].reshape(draws, *chroma_test.shape)
with no_grad():
    regressed = net(light_test).numpy()
ks = [k for k in (1, 2, 5, 10, 20) if k <= draws]
curves = {name: best_of(distance(ab), ks).mean(axis=1) for name, ab in (("draws", found.chroma), ("blind draws", blind))}
single = {"regression": distance(regressed).mean(), "no colour": distance(0 * chroma_test).mean()}
for name, curve in curves.items():
    print(f"{name}: best of " + ", ".join(f"{k} {error:.2f}" for k, error in zip(ks, curve, strict=True)))
print(", ".join(f"{name} {error:.2f}" for name, error in single.items()))
among = CHROMA * np.sqrt(found.chroma.var(axis=0).sum(axis=-1).mean())
spread = CHROMA * np.sqrt(chroma_test.reshape(-1, 2).var(axis=0).sum())
pictures = {"photos": rgb_test / 255.0, "draws": found.rgb[0], "regression": coloured(light_test, regressed).rgb}
vivid = {name: colourfulness(p).mean() for name, p in pictures.items()}
print("colourfulness: " + ", ".join(f"{name} {value:.1f}" for name, value in vivid.items()))
print(f"{found.outside:.1%} of the pixels that were drawn are outside of sRGB, and had their chroma reduced")
stage.claim(f"draws of one patch differ, by {among:.1f} (root mean square); all colours of the test by {spread:.1f}", among > 0.1 * spread)
last = {name: curve[-1] for name, curve in curves.items()} | single
stage.claim(
    f"the best of {ks[-1]} draws is nearer than regression and than the best of as many blind ones: "
    + ", ".join(f"{last[name]:.2f}" for name in ("draws", "regression", "blind draws")),
    last["draws"] < min(last["regression"], last["blind draws"]),
)

# %%

i = np.linspace(0, tests - 1, 6).astype(int)
columns = {
    "gray": coloured(light_test[i], 0 * chroma_test[i]).rgb[:, None],
    "photo": pictures["photos"][i][:, None],
    "regression": pictures["regression"][i][:, None],
    "draws": found.rgb[:6, i].swapaxes(0, 1),
}
stage.save(plots.groups(columns, f"Patches of photos that {len(learnt)} others have taught colours"), asked.out / "colour_photos.png")
figure = Figure(figsize=(5, 3.4), layout="constrained", facecolor="white")
ax = figure.add_subplot()
for (name, curve), hue, mark in zip(curves.items(), ("#0072B2", "#E69F00"), ("o-", "s--"), strict=True):
    ax.plot(ks, curve, mark, color=hue, markersize=4, linewidth=1.5, label={"draws": "best of k draws"}.get(name, "best of k blind draws"))
for (name, error), dashes in zip(single.items(), ("-.", ":"), strict=True):
    ax.axhline(error, color=INK, linestyle=dashes, linewidth=1, label=name)
ax.set_xscale("log")
ax.set_xticks(ks, [str(k) for k in ks])
ax.minorticks_off()
ax.set_xlabel("k", fontsize=TEXT, color=INK)
ax.set_ylabel("distance from the photo's a*, b*", fontsize=TEXT, color=INK)
ax.set_title(f"{tests} patches of {len(unseen)} photos", fontsize=TITLE, color=INK)
ax.set_ylim(0)
ax.grid(color=FAINT, linewidth=0.7)
ax.legend(fontsize=SMALL, frameon=False)
stage.save(calm(ax).get_figure(), asked.out / "colour_best_of.png")
