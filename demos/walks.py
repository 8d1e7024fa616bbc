"""Walks in the latent space: from one digit to another, and along one feature
============================================================================

A decoder draws an image for every code, and codes can be added, averaged and moved.  This page draws new digits from the prior, walks from
one test digit to another by a line and by an arc, moves one latent at a time, and moves digits along directions that make them lean or
make them bold.  How far the pictures lean and how bold they are is measured, and a classifier that has only seen real digits says whether
they are still the same digit.

Why an arc: a draw from :math:`N(0, I_d)` has a squared norm near d.  The middle of two draws, on the line between them, has half of it,

.. math:: \\left\\| \\tfrac{a + b}2 \\right\\|^2 \\sim \\tfrac12 \\chi^2_d, \\qquad
          \\text{slerp}(a, b; t) = \\frac{\\sin((1 - t)\\, \\omega)\\, a + \\sin(t\\, \\omega)\\, b}{\\sin \\omega}

where the prior has little mass (a ninth of it for d = 10, a thirtieth for d = 20) and the decoder was trained little; the arc, with
:math:`\\omega` the angle between a and b, keeps the norm (T. White, "Sampling generative networks", 2016).

``python demos/walks.py --out figures``
"""

import math

import numpy as np
import stage
from matplotlib.figure import Figure

from minivae import VAE, Stream, no_grad, plots
from minivae.data import to_float
from minivae.distributions import Categorical
from minivae.evaluate import slant, thickness
from minivae.models import activity, attribute_direction, lerp, slerp, traversal
from minivae.nn import Dense, Flatten, Sequential
from minivae.plots.bars import PARTS
from minivae.plots.layout import FAINT, INK, SMALL, TEXT, TITLE, calm

asked = stage.options(__doc__)
digits = stage.digits(asked)
root = Stream(asked.seed)
train, labels = digits.train_images, digits.train_labels
test = digits.test_images[:2000]

# %%
# The model, and a judge: a layer of 300 units that learns to read real digits.

latent = stage.pick(asked, 10, 10, 20)
model = VAE(digits.image_shape, root.split("weights"), latent=latent, hidden=(stage.pick(asked, 200, 300, 400),))
reports = stage.train(model, train, stage.pick(asked, 12, 40, 20), batch_size=stage.pick(asked, 64, 64, 128), seed=asked.seed)
weights = root.split("judge")
judge = Sequential(Flatten(), Dense(train[0].size, 300, weights, "relu"), Dense(300, 10, weights))


def log_prob(at: np.ndarray):
    return Categorical(judge(to_float(train[at]))).log_prob(labels[at])


stage.fit(judge, log_prob, len(train), stage.pick(asked, 6, 20, 5), root.split("order"), weight_decay=1e-3)


def opinion(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The digit that the judge reads, and how sure it is.     (..., H, W, C) -> (...), (...)"""
    with no_grad():
        p = Categorical(judge(images.reshape(-1, *digits.image_shape))).probabilities.data.reshape(*images.shape[:-3], 10)
    return p.argmax(axis=-1), p.max(axis=-1)


def codes(images: np.ndarray) -> np.ndarray:
    with no_grad():
        return model.encode(to_float(images)).mean.data


def decoded(z: np.ndarray) -> np.ndarray:
    with no_grad():
        return model.decode_mean(z.astype(np.float32))


z = codes(test)
print(f"after {len(reports)} epochs the loss is {reports[-1]['loss']:.1f} nats; the judge reads", end=" ")
print(f"{(opinion(to_float(test))[0] == digits.test_labels[: len(test)]).mean():.1%} of the real test digits")

# %%
# New digits: codes from the prior.  Many of the pictures are digits, and some are none: the judge is less sure of them than of
# reconstructions, since the codes of the data do not fill the prior evenly.

drawn, again = decoded(model.sample_prior(root.split("prior"), 1000).data), decoded(z)
stage.save(plots.samples(drawn[:64], "Decoded draws from the prior"), asked.out / "walks_prior.png")
sure = [float((opinion(images)[1] > 0.9).mean()) for images in (drawn, again)]
stage.claim(f"the judge is sure of {sure[0]:.0%} of the new digits and of {sure[1]:.0%} of the reconstructions", 0.2 < sure[0] < sure[1])

# %%
# The norms, first of draws from the prior.  Twice the sum of the squared norms of N midpoints is chi-squared with N d degrees of freedom,
# D in all, and that is beyond :math:`D - 2\sqrt{14 D}` or :math:`D + 2\sqrt{14 D} + 28` with a chance of :math:`e^{-14}` each, one in a
# million (B. Laurent and P. Massart, "Adaptive estimation of a quadratic functional by model selection", 2000, lemma 1).

pairs = 1000
a, b = (root.split(f"end {i}").normal((pairs, latent)).astype(np.float64) for i in (0, 1))
t = np.linspace(0, 1, 9)
line, arc = lerp(a, b, t), slerp(a, b, t)
middle = 2 * (line[:, 4] ** 2).sum()
degrees = pairs * latent
bounds = [(degrees - 2 * math.sqrt(14 * degrees)) / (2 * pairs), (degrees + 2 * math.sqrt(14 * degrees) + 28) / (2 * pairs)]
stage.claim(
    f"the mean squared norm at the middle of a line is {middle / (2 * pairs):.3f}, between {bounds[0]:.3f} and {bounds[1]:.3f}: d / 2",
    bounds[0] < middle / (2 * pairs) < bounds[1],
)
ends = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
ratio = ((arc[:, 4] ** 2).sum(axis=1) / ends).min()
stage.claim(f"on the arc it is at least |a||b|, for each of {pairs} pairs: {ratio:.6f} times that at least", ratio > 1 - 1e-9)

# %%
# Now test digits.  The mean codes of two, and what the decoder makes of the way between them.  A pixel with the mean p has the variance
# p (1 - p): where that is large the decoder is not sure what to draw, and the picture is blurred.  On the line it is so in the middle; on
# the arc it hardly is.  The judge is less sure on the way than at the ends, on both ways: to be sharp is not to be a digit.

order = root.split("pairs").permutation(len(z))
from_, to = z[order[: len(z) // 2]], z[order[len(z) // 2 : 2 * (len(z) // 2)]]
ways = {"line": lerp(from_, to, t), "arc": slerp(from_, to, t)}
images = {name: decoded(way) for name, way in ways.items()}
blur = {name: (p * (1 - p)).mean(axis=(0, 2, 3, 4)) for name, p in images.items()}
norm = {name: (way**2).sum(axis=-1).mean(axis=0) for name, way in ways.items()}
read = {name: opinion(p)[1].mean(axis=0) for name, p in images.items()}
for name in ways:
    print(
        f"{name}: squared norm {norm[name][0]:.1f} at the end, {norm[name][4]:.1f} at the middle; "
        f"blur {blur[name][0]:.4f}, {blur[name][4]:.4f}; the judge's certainty {read[name][0]:.3f}, {read[name][4]:.3f}"
    )
more = {name: blur[name][4] / blur[name][[0, -1]].mean() - 1 for name in ways}
least = stage.pick(asked, 0.05, 0.1, 0.1)
stage.claim(
    f"at the middle the pictures on the line are more blurred than at the ends, by {more['line']:.0%}, at least {least:.0%}; "
    f"those on the arc by {more['arc']:.0%}, less than half of that",
    more["line"] > least and more["arc"] < more["line"] / 2,
)
shown = np.flatnonzero(opinion(images["line"][:, 0])[0] != opinion(images["line"][:, -1])[0])[:5]
rows = np.concatenate([[images["line"][i], images["arc"][i]] for i in shown])
stage.save(plots.interpolations(rows, ["line", "arc"] * len(shown)), asked.out / "walks_between.png")

figure = Figure(figsize=(8.4, 3), layout="constrained", facecolor="white")
titles = {"squared norm of the code": norm, "blur, mean of p (1 − p)": blur, "certainty of the judge": read}
for ax, (title, values) in zip(figure.subplots(1, 3), titles.items(), strict=True):
    for (name, curve), colour in zip(values.items(), (PARTS[4], PARTS[0]), strict=True):
        ax.plot(t, curve, color=colour, linewidth=1.8, marker="o", markersize=4, label=name)
    ax.set_title(title, fontsize=TITLE, color=INK)
    ax.set_xlabel("t, from one digit to another", fontsize=TEXT, color=INK)
    ax.grid(color=FAINT, linewidth=0.7)
    calm(ax)
figure.axes[0].legend(fontsize=TEXT, frameon=False)
stage.save(figure, asked.out / "walks_norms.png")

# %%
# One latent at a time, from -3 to 3, for one test digit: the latents with the largest KL first.  Most change several features at once;
# nothing in the ELBO asks that a latent should stand for one.

use = activity(model, to_float(test[:1000]), root.split("activity"))
loudest = np.argsort(-use.kl)[:8]
values = np.linspace(-3, 3, 9)
rows = np.stack([decoded(traversal(z[3], k, values)) for k in loudest])
names = [f"latent {k + 1}: {use.kl[k]:.2f} nats" for k in loudest]
picture = plots.walks(
    rows, values, names, "One latent at a time, the others as the encoder has them", "value of the latent (σ of the prior)"
)
stage.save(picture, asked.out / "walks_latents.png")

# %%
# A feature has a direction all the same: the mean code of the images that have more of it than the median of their digit, less that of the
# others, averaged over the digits.  (Over all digits at once it would hold some of the digit, too: ones lean more than nines.)  A step of 1
# goes as far as from the one mean to the other.  (A single latent may do nearly as well, by chance; nothing says which one.)

steps = np.linspace(-1.5, 1.5, 7)
inner = abs(steps) <= 1
trained = codes(train)
features = {"slant": slant, "thickness": thickness}
real = {name: feature(to_float(test)) for name, feature in features.items()}
changes, pictures, kept = {}, [], {}
chosen = [int(np.flatnonzero(digits.test_labels == k)[0]) for k in (2, 4, 7)]
for name, feature in features.items():
    measured = feature(to_float(train))
    medians = np.array([np.median(measured[labels == k]) for k in range(10)])
    direction = attribute_direction(trained, measured > medians[labels], labels)
    moved = decoded(z[:, None] + steps[:, None] * direction)  # (N, S, H, W, C)
    flat = moved.reshape(-1, *digits.image_shape)
    changes[name] = {each: f(flat).reshape(moved.shape[:2]) for each, f in features.items()}
    reading = opinion(moved)[0]
    kept[name] = (reading == reading[:, [3]]).mean(axis=0)
    pictures += [*moved[chosen]]

    own, beside = changes[name][name], next(each for each in features if each != name)
    other = changes[name][beside]
    rise = np.diff(own, axis=1)
    error = rise.std(axis=0, ddof=1) / math.sqrt(len(rise))
    print(f"{name}: " + ", ".join(f"{step:+g}: {mean:.2f}" for step, mean in zip(steps, own.mean(axis=0), strict=True)))
    stage.claim(
        f"{name} rises with every step, by {(rise.mean(axis=0) / error).min():.0f} standard errors at least",
        bool((rise.mean(axis=0) > 5 * error).all()),
    )
    far = (own[:, 5] - own[:, 1]).mean() / real[name].std()
    stage.claim(f"from -1 to 1 it moves by {far:.1f} of its standard deviations over the test images, more than 1", far > 1)
    always = (np.diff(own[:, inner], axis=1) > 0).all(axis=1).mean()
    stage.claim(f"so it does for {always:.0%} of the images one by one, more than 80%", always > 0.8)
    drift = abs(other.mean(axis=0) - other[:, 3].mean())[inner].max() / real[beside].std()
    stage.claim(f"the other feature moves by {drift:.2f} of its standard deviations meanwhile, less than 0.3", drift < 0.3)
    latents = [feature(decoded(z + half)) - feature(decoded(z - half)) for half in np.eye(latent) / 2]
    best, unit = max(abs(change.mean()) for change in latents), (own[:, 4] - own[:, 2]).mean() / np.linalg.norm(direction)
    print(f"a unit of code moves {name} by {unit:.2f} along its direction, and by {best:.2f} along the best single latent")
    same, least = kept[name][inner].min(), stage.pick(asked, 0.7, 0.75, 0.75)
    stage.claim(f"the judge reads the same digit in {same:.0%} of the images at least, more than {least:.0%}", same > least)

# %%
# The same six walks as pictures, and the measurements as curves.  Past 1 the digit is lost more often: a seven that leans to the left is a
# rare seven.

rows, names = np.stack(pictures), ["slant"] * 3 + ["thickness"] * 3
stage.save(plots.walks(rows, steps, names, "More and less of one feature", "steps along its direction"), asked.out / "walks_features.png")

figure = Figure(figsize=(8.4, 3), layout="constrained", facecolor="white")
left, right = figure.subplots(1, 2)
for (name, found), colour in zip(changes.items(), (PARTS[4], PARTS[0]), strict=True):
    for each, style in ((name, "-"), *((each, ":") for each in features if each != name)):
        moved = (found[each] - found[each][:, [3]]).mean(axis=0) / real[each].std()
        left.plot(steps, moved, style, color=colour, linewidth=1.8, marker="o", markersize=4, label=f"{each}, along {name}")
    right.plot(steps, 100 * kept[name], color=colour, linewidth=1.8, marker="o", markersize=4, label=f"along {name}")
left.set_ylabel("change (σ over the test images)", fontsize=TEXT, color=INK)
right.set_ylabel("% read as the same digit", fontsize=TEXT, color=INK)
right.set_ylim(0, 103)
for ax in (left, right):
    ax.set_xlabel("steps along the direction", fontsize=TEXT, color=INK)
    ax.grid(color=FAINT, linewidth=0.7)
    ax.legend(fontsize=SMALL, frameon=False)
    calm(ax)
stage.save(figure, asked.out / "walks_measured.png")
