"""Gray digits in fewer bytes than lzma
====================================

The paper on bits-back coding codes the gray digits of MNIST in 1.41 bits a pixel and compares with PNG and bzip2.  It has no lzma, which
takes 1.382 for the same images: the published model is behind it.  A larger one, whose layers are normalized over the batch and whose
learning rate falls as half a cosine, gets ahead.  ``python demos/gray_bytes.py --out figures``; the comparison with the published figures
is ``--full``, on all of MNIST.

Most of these bytes are the grays along the edges of strokes.  The likelihood is a beta-binomial of 256 levels: wide, narrow, or at both
ends at once.  (J. Townsend, T. Bird and D. Barber, "Practical lossless compression with latent variables using bits back coding", 2019.)
"""

import math

import numpy as np
import stage

from minivae import VAE, Module, Stream, nn
from minivae.compress import BitsBack, compress, decompress, in_integers, read_header, total_bits
from minivae.training import losses

asked = stage.options(__doc__)
digits = stage.digits(asked)
rng = Stream(asked.seed).split("weights")
test = digits.test_images
n, pixels = len(test), math.prod(digits.image_shape)

# %%
# The model: two hidden layers either way, each normalized over the batch, and two numbers a pixel.  A batch norm by its running moments is
# a factor and a shift; the coder has them in the weights.

latent, units = stage.pick(asked, (16, 100), (32, 300), (50, 500))


def block(inputs: int, outputs: int) -> list[Module]:
    return [nn.Dense(inputs, outputs, rng), nn.BatchNorm(outputs), nn.Activation("relu")]


encoder = nn.Sequential(nn.Flatten(), *block(pixels, units), *block(units, units), nn.Dense(units, 2 * latent, rng))
shape = (*digits.image_shape[:2], 2)
decoder = nn.Sequential(*block(latent, units), *block(units, units), nn.Dense(units, 2 * pixels, rng), nn.Reshape(*shape))
model = VAE(digits.image_shape, latent=latent, likelihood="beta_binomial", encoder=encoder, decoder=decoder)
epochs = stage.pick(asked, 5, 40, 12)
stage.train(model, digits.train_images, epochs, batch_size=100, lr=2e-3, lr_schedule="cosine", seed=asked.seed)

# %%
# What the ELBO says, in floats and with the networks in integers, by the same noise.  The difference is what it costs that every machine
# decodes the same file.

per_pixel = 1 / math.log(2) / pixels
floats = np.array([losses(model, test, seed)["loss"] for seed in range(3)]) * per_pixel
rounded = np.array([losses(in_integers(model), test, seed)["loss"] for seed in range(3)]) * per_pixel
cost, error = 100 * (rounded / floats - 1).mean(), 100 * (rounded / floats).std() / math.sqrt(2)
stage.claim(
    f"-ELBO is {floats.mean():.4f} bits a pixel; integers in the place of floats change it by {cost:+.4f}% +- {error:.4f}%",
    abs(cost) < 0.1 + 5 * error,
)

# %%
# The file: blocks of 500 images, their initial bits among them, and all of it read again.

coder = BitsBack(model)
lengths: list[np.ndarray] = []
size = stage.pick(asked, 250, 500, 500)
blocks = coder.encode(test, size, lengths)
file = compress(coder, test, size)
initial = total_bits(blocks) - sum(line[-1] - line[0] for line in lengths)
net = sum(line[-1] - line[0] for line in lengths) / test.size
back = np.concatenate(list(decompress(coder, file)))
stage.claim(f"all {n:,} images come back from {len(file):,} bytes to the byte", bool((back == test).all()))
# an image that the model thinks impossible is cheaper in slots of 2^-20 than in nats; so the messages may be shorter than -ELBO
stage.claim(
    f"the messages take {net:.4f} bits a pixel, {100 * (net / floats.mean() - 1):+.2f}% against -ELBO",
    abs(net / floats.mean() - 1) < 0.005,
)

# %%
# The others get all images at once, and nobody counts their programs.

sizes = stage.compressed(test.tobytes()) | {"bits back": len(file)}
for name, count in sizes.items():
    print(f"{name:10s} {count:9,d} bytes, {8 * count / test.size:.4f} bits a pixel")
best = min(count for name, count in sizes.items() if name != "bits back")

# %%
# Nor is the model, without which nobody can read the file.  So many images it takes until both together are smaller than what the best of
# the others makes, if that goes on as it did.

weights = 4 * sum(p.size for p in model.parameters())
saved = (best - len(file)) / n
print(f"initial bits are {initial / len(blocks):.0f} a block; the model has {weights:,} bytes, {weights / len(file):.1f} times the file")
print(f"each image saves {saved:.1f} bytes" + (f": with the model, from {weights / saved:,.0f} images on" if saved > 0 else ""))
nats = [losses(model, test, seed) for seed in range(3)]
kilo = 1 / 8000
parts = {
    "pixels": np.mean([t["reconstruction"] for t in nats]) / math.log(2) * n * kilo,
    "latents": np.mean([t["kl"] for t in nats]) / math.log(2) * n * kilo,
    "initial": initial * kilo,
    "header": read_header(file).size / 1000,
}
others = {name: count / 1000 for name, count in sizes.items() if name != "bits back"}
stage.save(stage.bars_of_a_file(parts, weights / 1000, others, f"{n:,} gray digits"), asked.out / "gray_bytes.png")
if asked.full:  # 4,500 digits are too few to learn from
    stage.claim(f"the file is {100 * (1 - len(file) / best):.1f}% smaller than the best of them, the model not counted", len(file) < best)
