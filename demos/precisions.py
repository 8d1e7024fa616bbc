"""What a file's precisions cost
=============================

A file of bits back is exact because everything that its reader computes is made of integers.  All of it is rounded somewhere: the weights
of the networks, what flows between their layers, the bins of a latent, the slots of the posterior and of a pixel.  Coarse ones cost bits;
here each is varied and the rest is left alone.

The networks are judged by their ELBO: ``in_integers(model, ...)`` is the model with rounded networks, and given the same noise it differs
from the model by rounding alone.  The others are judged by the length of messages.  ``python demos/precisions.py --out figures``
"""

import math

import numpy as np
import stage
from matplotlib.figure import Figure

from minivae import VAE, Stream, data
from minivae.compress import BitsBack, Stack, compress, in_integers, total_bits
from minivae.engine import no_grad
from minivae.plots.bars import PARTS
from minivae.plots.layout import FAINT, INK, SMALL, TEXT, TITLE, calm
from minivae.training import losses

asked = stage.options(__doc__)
digits = stage.digits(asked)
root = Stream(asked.seed)
gray = digits.test_images[: stage.pick(asked, 200, 500, 2000)]
drawn = data.binarize(data.to_float(gray), root.split("bits of the test images")).astype(np.uint8) * np.uint8(255)
DRAWS = 4  # of z an image


def trained(likelihood: str, latent: int, hidden: int, **settings: float) -> VAE:
    model = VAE(digits.image_shape, root.split(likelihood), latent=latent, hidden=(hidden,), likelihood=likelihood)
    epochs = stage.pick(asked, 4, 40, 20)
    stage.train(model, digits.train_images, epochs, batch_size=stage.pick(asked, 64, 64, 100), seed=asked.seed, name=likelihood, **settings)
    return model


def bits(model: VAE, images: np.ndarray) -> np.ndarray:
    """-ELBO a draw of z, bits an image.     -> (DRAWS,)"""
    return np.array([losses(model, images, seed)["loss"] for seed in range(DRAWS)]) / math.log(2)


models = {
    "binary": (trained("bernoulli", 40, 100, binarize=True), drawn),
    "gray": (trained("beta_binomial", 50, 200, lr=5e-4), gray),
}
exact = {name: bits(model, images) for name, (model, images) in models.items()}

# %%
# Rounded networks
# ----------------
# Weights to 2^-b with activations to 2^-14, and the other way round.

sweep = stage.pick(asked, (2, 4, 8, 12), range(1, 15), range(1, 15))
costs: dict[tuple[str, str], list[np.ndarray]] = {}
for name, (model, images) in models.items():
    for kind in ("weights", "activations"):
        rows = []
        for b in sweep:
            change = bits(in_integers(model, *((b, 14) if kind == "weights" else (14, b))), images) - exact[name]
            rows.append(np.array([change.mean(), change.std() / math.sqrt(DRAWS - 1)]))
        costs[name, kind] = rows
        print(f"{name}, {kind:11s}", *(f"2^-{b}: {row[0]:+.3f}" for b, row in zip(sweep, rows, strict=True)), "bits an image")

for name, (model, images) in models.items():
    change = bits(in_integers(model), images) - exact[name]
    cost, error = 100 * change.mean() / exact[name].mean(), 100 * change.std() / math.sqrt(DRAWS - 1) / exact[name].mean()
    stage.claim(
        f"{name}: weights of 2^-12 and activations of 2^-8, as files have them, change -ELBO by {change.mean():+.3f} bits of "
        f"{exact[name].mean():.1f} an image, {cost:+.4f}% +- {error:.4f}%",
        abs(cost) < 0.1 + 5 * error,
    )
    coarse = max(row[0] for kind in ("weights", "activations") for b, row in zip(sweep, costs[name, kind], strict=True) if b <= 2)
    stage.claim(f"{name}: at 2^-2 or less it is up to {100 * coarse / exact[name].mean():.1f}%", coarse > 0.01 * exact[name].mean())

figure = Figure(figsize=(7.6, 3.6), layout="constrained", facecolor="white")
ax = figure.add_subplot()
for colour, name in zip(PARTS, models, strict=False):
    for line, kind in (("-", "weights"), (":", "activations")):
        share = 100 * np.array([row[0] for row in costs[name, kind]]) / exact[name].mean()
        ax.plot(sweep, share, "o" + line, color=colour, markersize=3.5, linewidth=1.7, label=f"{name}, {kind}")
ax.set_yscale("symlog", linthresh=0.001)  # around 0 it may be a gain
ax.axhline(0, color=INK, linewidth=0.7)
ax.set(xlim=(min(sweep) - 0.3, max(sweep) + 0.3))
ax.set_xticks(list(sweep))
ax.grid(color=FAINT, linewidth=0.7)
ax.set_xlabel("bits behind the point", fontsize=TEXT, color=INK)
ax.set_ylabel("change of -ELBO, %", fontsize=TEXT, color=INK)
ax.set_title("Networks in integers", fontsize=TITLE, color=INK)
figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", fontsize=SMALL, frameon=False)
stage.save(calm(ax).figure, asked.out / "precisions.png")

# %%
# Bins and slots
# --------------
# The messages of one block, with more and fewer bits of a latent (p), of the posterior (q) and of a pixel (r); p 8, q 24, r 20 are the
# coder's own.  Another p draws other z, so that lengths differ by what draws differ by: a few hundredths of a percent.


def net(model: VAE, images: np.ndarray, *precisions: int) -> float:
    """What the messages grow by, bits an image."""
    lengths: list[np.ndarray] = []
    BitsBack(model, *precisions).encode(images, len(images), lengths)
    return float(sum(line[-1] - line[0] for line in lengths)) / len(images)


PRECISIONS = {
    "p, bins of a latent": [(p, 24, 20) for p in (4, 6, 8, 10, 12)],
    "q, slots of the posterior": [(8, q, 20) for q in (10, 12, 16, 20, 24, 28)],
    "r, slots of a pixel": [(8, 24, r) for r in (10, 12, 16, 20, 24)],
}
spread = {name: 100 * values.std() / values.mean() for name, values in exact.items()}
own = {name: net(*pair) for name, pair in models.items()}
changed: dict[tuple[str, tuple], float] = {}
for title, rows in PRECISIONS.items():
    for name, pair in models.items():
        for row in rows:
            changed[name, row] = 100 * (net(*pair, *row) / own[name] - 1)
        print(f"{title}, {name:6s}", *(f"{row}: {changed[name, row]:+.2f}%" for row in rows))
for name, length in own.items():
    off = 100 * (length / exact[name].mean() - 1)
    stage.claim(
        f"{name}: the messages take {length:.2f} bits an image, {off:+.2f}% against -ELBO, of which one draw of z is known to "
        f"{spread[name]:.2f}%",
        abs(off) < 0.5 + 5 * spread[name],
    )
    finer = max(abs(changed[name, row]) for row in ((10, 24, 20), (8, 28, 20), (8, 24, 24)))
    stage.claim(f"{name}: more of any of them changes that by {finer:.2f}% at most", finer < 0.2 + 8 * spread[name])

# %%
# Blocks
# ------
# A block of its own can be read alone, and pays for it: initial bits, which its first image takes, a state of 8 bytes, 12 in the table.

sizes = [b for b in (1, 5, 20, 50, 100, 200, 500, 1000, 2000) if b <= len(drawn)]
model = models["binary"][0]
coder, a_block = BitsBack(model), []
for b in sizes:
    lengths: list[np.ndarray] = []
    blocks = coder.encode(drawn, b, lengths)
    initial = (total_bits(blocks) - sum(line[-1] - line[0] for line in lengths)) / len(blocks)
    a_block.append((8 * len(compress(coder, drawn, b)) / len(drawn), initial))
    print(f"blocks of {b:4d}: {a_block[-1][0]:8.2f} bits an image, all counted; {initial:.0f} initial bits a block")
stage.claim(
    f"an image alone takes {a_block[0][0]:.0f} bits, one of {sizes[-1]} in a block {a_block[-1][0]:.1f}; "
    f"-ELBO is {exact['binary'].mean():.1f}",
    a_block[0][0] > 2 * a_block[-1][0],
)

# %%
# Lanes
# -----
# An entropy coder may keep several states in turns, so that a processor works on several symbols at once; each costs 64 bits once a
# message.  The pixels of all images as one message, with the probabilities that the decoder gives them; bits back has one state a message.

with no_grad():
    x = data.to_float(drawn)
    logits = model.decode(model.encode(x).mean).logits.numpy().astype(np.float64).ravel()
ones = np.clip(np.rint(2.0**16 / (1 + np.exp(-logits))), 1, 2**16 - 1).astype(np.int64)
is_one = x.ravel() > 0.5
start, frequency = np.where(is_one, 2**16 - ones, 0), np.where(is_one, ones, 2**16 - ones)
entropy = -np.log2(frequency / 2.0**16).sum()
above = {}
for lanes in (1, 4, 32, 784):
    stack = Stack(lanes=lanes)
    stack.push(start, frequency, 16)
    above[lanes] = 100 * (stack.bits / entropy - 1)
print(f"{len(drawn)} images, a message over its entropy:", *(f"{lanes} lanes {value:+.3f}%" for lanes, value in above.items()))
stage.claim("more lanes take more, by 32 bits of each", above[784] > above[32] > above[1] >= 0)
figure = Figure(figsize=(6.4, 3.4), layout="constrained", facecolor="white")
ax = figure.add_subplot()
ax.plot(sizes, [bits_each for bits_each, _ in a_block], "o-", color=PARTS[4], markersize=4, linewidth=1.7, label="all counted")
ax.axhline(exact["binary"].mean(), color=INK, linewidth=1, linestyle=":", label="negative ELBO")
ax.set(xscale="log", ylim=(0, None))
ax.xaxis.set_major_formatter("{x:g}")
ax.grid(color=FAINT, linewidth=0.7)
ax.set_xlabel("images in a block", fontsize=TEXT, color=INK)
ax.set_ylabel("bits per image", fontsize=TEXT, color=INK)
ax.set_title("What a block costs, binary digits", fontsize=TITLE, color=INK)
ax.legend(fontsize=SMALL, frameon=False)
stage.save(calm(ax).figure, asked.out / "precisions_blocks.png")
