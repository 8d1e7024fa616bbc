"""Bits back: the ELBO in bytes
===============================

A VAE is a compressor.  To append an image to a message, first *take* bits off it to draw z by :math:`q(z \\mid x)`, then write x by
:math:`p(x \\mid z)` and z by :math:`p(z)`.  Who reads the image knows x and z, and so which bits they were: they come back.  What an image
adds is

.. math:: -\\log_2 p(x \\mid z) - \\log_2 p(z) + \\log_2 q(z \\mid x)  \\qquad\\text{bits, in the mean the negative ELBO.}

Here real files are written and read again, and weighed against gzip, bzip2 and lzma on the same bits.  (J. Townsend, T. Bird and D.
Barber, "Practical lossless compression with latent variables using bits back coding", 2019.)  ``python demos/bits_back.py --out figures``
"""

import math

import numpy as np
import stage
from matplotlib.figure import Figure

from minivae import VAE, Stream, data
from minivae.compress import BitsBack, compress, decompress, read_blocks, read_header, total_bits
from minivae.errors import DataError
from minivae.plots.bars import PARTS
from minivae.plots.layout import FAINT, INK, SMALL, TEXT, TITLE, calm
from minivae.quadrature import log_marginal
from minivae.training import losses

asked = stage.options(__doc__)
digits = stage.digits(asked)
root = Stream(asked.seed)


def black_and_white(images: np.ndarray, name: str) -> np.ndarray:
    """Each pixel 0 or 255, with its gray as the probability."""
    return data.binarize(data.to_float(images), root.split(name)).astype(np.uint8) * np.uint8(255)


# %%
# A model of black and white digits, trained with fresh bits every epoch; the test images are drawn once.

test = black_and_white(digits.test_images, "bits of the test images")
model = VAE(digits.image_shape, root.split("weights"), latent=stage.pick(asked, 20, 40, 40), hidden=(100,))
epochs = stage.pick(asked, 8, 60, 20)
stage.train(model, digits.train_images, epochs, batch_size=stage.pick(asked, 64, 64, 100), seed=asked.seed, binarize=True)
nats = [losses(model, test, seed) for seed in range(5)]
elbo_bits = np.mean([n["loss"] for n in nats]) / math.log(2)
spread = np.std([n["loss"] for n in nats]) / math.log(2)  # of one draw of z an image, as the message has

# %%
# Its networks are rounded to integers, so that every machine decodes the same, and the test images are coded in blocks.  The first image of
# a block finds nothing to draw its z with; these initial bits stay in the file, and are counted.

coder = BitsBack(model)
lengths: list[np.ndarray] = []
block = stage.pick(asked, 250, 500, 500)
blocks = coder.encode(test, block, lengths)
file = compress(coder, test, block)
net = sum(line[-1] - line[0] for line in lengths)
initial = total_bits(blocks) - net
pixels, n = test.size, len(test)
back = np.concatenate(list(decompress(coder, file)))
stage.claim(f"all {n:,} images come back from {len(file):,} bytes to the byte", bool((back == test).all()))
# 0.1% for integers in the place of floats, and what draws of z differ by
off = net / (n * elbo_bits) - 1
stage.claim(
    f"the messages grow by the negative ELBO: {net / n:.2f} bits an image for {elbo_bits:.2f}, {100 * off:+.2f}%",
    abs(off) < 0.002 + 5 * spread / elbo_bits,
)
stage.claim(
    f"initial bits are {initial / len(blocks):.0f} a block, {100 * initial / net:.2f}% of the whole",
    0 < initial / len(blocks) < model.latent * coder.posterior_bits + 64,
)
print(f"{8 * len(file) / pixels:.4f} bits a pixel, all counted but the model")

# %%
# One block alone can be read, and what was altered is not an image but a sentence.

header = read_header(file)
last = len(header.ends) - 1
alone = read_blocks(coder, file, header, range(last, last + 1))
stage.claim("the last block is read without the others", bool((alone == test[last * block :]).all()))
altered = bytearray(file)
altered[-100] ^= 1
try:
    list(decompress(coder, bytes(altered)))
    told = ""
except DataError as error:
    told = str(error)
stage.claim(f"one bit is flipped, and it says: {told}", "altered" in told)

# %%
# The general compressors get the same bits, eight to a byte, all images at once.

sizes = stage.compressed(np.packbits(test.reshape(n, -1) != 0).tobytes()) | {"bits back": len(file)}
for name, size in sizes.items():
    print(f"{name:10s} {size:9,d} bytes, {8 * size / pixels:.4f} bits a pixel")
best = min(size for name, size in sizes.items() if name != "bits back")
stage.claim(f"the file is {100 * (1 - len(file) / best):.0f}% smaller than the best of them, the model not counted", len(file) < best)

# %%
# What a file consists of.  The part of the latents is the KL: what z costs less what comes back.  Without the model nobody can read it: so
# many images it takes until both together are smaller than what the best of the others makes.

weights = 4 * sum(p.size for p in model.parameters())
saved = (best - len(file)) / n
print(f"the model has {weights:,} bytes, an image saves {saved:.2f}: with the model it is ahead from {weights / saved:,.0f} images on")
kilo = 1 / 8000
parts = {
    "pixels": np.mean([t["reconstruction"] for t in nats]) / math.log(2) * n * kilo,
    "latents": np.mean([t["kl"] for t in nats]) / math.log(2) * n * kilo,
    "initial": initial * kilo,
    "header": header.size / 1000,
}
total = sum(parts.values())
stage.claim(
    f"the parts add up to the file: {total:.2f} of {len(file) / 1000:.2f} kB",
    abs(total * 1000 / len(file) - 1) < 0.003 + 5 * spread / elbo_bits,
)
others = {name: size / 1000 for name, size in sizes.items() if name != "bits back"}
stage.save(stage.bars_of_a_file(parts, weights / 1000, others, f"{n:,} binary digits"), asked.out / "bits_back.png")

# %%
# Along a chain.  The first image pays for all of its z, since nothing comes back yet that was there before; every other is paid back.

line = lengths[0]
added, count = np.diff(line), np.arange(1, len(line))
paid = (line[1:] - line[0] + initial / len(blocks)) / count
figure = Figure(figsize=(8, 3.4), layout="constrained", facecolor="white")
ax = figure.add_subplot()
ax.plot(count, added, ".", color=PARTS[5], markersize=3, label="each image, net")
ax.plot(count, paid, color=PARTS[4], linewidth=1.7, label="mean so far, initial bits counted")
ax.axhline(elbo_bits, color=INK, linewidth=1, linestyle=":", label="negative ELBO of all test images")
ax.set(xscale="log", xlim=(1, count[-1]))
ax.grid(color=FAINT, linewidth=0.7)
ax.set_xlabel("images in the block", fontsize=TEXT, color=INK)
ax.set_ylabel("bits per image", fontsize=TEXT, color=INK)
ax.set_title("A chain of images", fontsize=TITLE, color=INK)
figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", fontsize=SMALL, frameon=False)
stage.save(calm(ax).figure, asked.out / "bits_back_chain.png")

# %%
# What the encoder costs.  With two latents log p(x) is an integral on a grid, and the messages exceed it by the divergence of q from the
# exact posterior: bytes that a better encoder would save.  Some images are coded again and again, so that the mean over z is
# known; 0.1% are left for integers in the place of floats.

small = VAE(digits.image_shape, root.split("small"), latent=2, hidden=(50,), activation="tanh")
stage.train(small, digits.train_images, stage.pick(asked, 4, 20, 5), batch_size=64, lr=2e-3, seed=asked.seed, binarize=True)
few, times = test[: stage.pick(asked, 3, 8, 8)], stage.pick(asked, 400, 1000, 1000)
exact = -log_marginal(small, data.to_float(few), 1e-6).log_p / math.log(2)
chain: list[np.ndarray] = []
BitsBack(small, latent_bits=12).encode(np.tile(few, (times, 1, 1, 1)), len(few) * times, chain)
each = np.diff(chain[0]).reshape(times, len(few))
gap, error = (each - exact).mean(), each.std(axis=0).mean() / math.sqrt(each.size)
x = np.tile(data.to_float(few), (times, 1, 1, 1))
bound = np.mean([losses(small, x, seed)["loss"] for seed in range(4)]) / math.log(2) - exact.mean()
stage.claim(
    f"with two latents an image takes {gap:.2f} +- {error:.2f} bits more than -log2 p(x), and the ELBO says {bound:.2f}",
    gap > 0 and abs(gap - bound) < 5 * error + 0.001 * exact.mean(),
)
print(f"that is {gap / exact.mean() * 100:.1f}% of a file, {gap * n / 8:,.0f} bytes of that of all {n:,} images, for q's sake")
