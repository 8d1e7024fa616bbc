"""What an image costs at every level of noise: a diffusion as a compressor
========================================================================

A diffusion is a VAE whose layers of codes are images with more and more noise, and its bound on log p(x) is a sum with a term for each
layer. Divided by the number of pixels and by log 2 it is *bits per dimension*: what a pixel of 256 levels would cost in a file. Here a
U-Net is trained by that bound, and the bound is taken apart: which noise is it that costs the bits?
``python demos/pixels_diffusion.py --out figures``

The network starts from what each pixel's noisy value tells of that pixel by itself, given how often each level occurs in the data. An
untrained network has that bound, close to the entropy of a pixel's level; all that is below it is what the network knows of neighbours.
"""

import math
import time

import numpy as np
import stage
from matplotlib.figure import Figure
from tqdm import tqdm

import minivae as mv
from minivae import Stream, inference, plots
from minivae.data import batch_indices, to_float
from minivae.evaluate import layer_costs
from minivae.evaluate.neighbours import distances, rows
from minivae.models import Diffusion, level_frequencies
from minivae.models.diffusion import Chain, scales
from minivae.objectives import NoisePrediction
from minivae.plots.bars import PARTS
from minivae.plots.layout import FAINT, INK, SMALL, TITLE, calm
from minivae.training import Trainer, TrainingConfig

asked = stage.options(__doc__)
digits = stage.digits(asked)
root = Stream(asked.seed)
channels, batch, lr, ema = stage.pick(asked, ((4, 8), 32, 4e-3, 0.9), ((16, 32, 64), 32, 3e-3, 0.99), ((16, 32, 64), 32, 2e-3, 0.999))
seconds, clock = stage.pick(asked, (6.0, 60.0), (150.0, 900.0), (2400.0, 3600.0))  # of one processor, or by the clock: what is first
file = asked.out / "pixels_diffusion.npz"
pixels = math.prod(digits.image_shape)
bits = 1 / pixels / math.log(2)  # times nats an image: bits per dimension

# %%
# Training, by the bound itself: one layer an image and step, the layers of a batch spread evenly.  The rate falls as the time is used up.
# A model of this size that lies in the folder already is taken as it is.


def fresh() -> Diffusion:
    frequencies = level_frequencies(digits.train_images)
    return Diffusion(digits.image_shape, root.split("weights"), arch="unet", channels=channels, frequencies=frequencies)


def train(model: Diffusion) -> None:
    """Prints the bound of the last steps' images now and then, and keeps the model in `file`."""
    trainer = Trainer(model, TrainingConfig(batch_size=batch, lr=lr, seed=asked.seed), NoisePrediction(ema=ema))
    for _ in range(3):  # compiles what is to be timed
        trainer.step(to_float(digits.train_images[:batch]))
    start, began, step, saved, done, recent = time.process_time(), time.time(), 0, 0.0, 0.0, []
    with tqdm(total=1.0, desc="training", leave=False, delay=2) as bar:
        while done < 1:
            for at in batch_indices(len(digits.train_images), batch, root.split(f"order from step {step}")):
                done = max((time.process_time() - start) / seconds, (time.time() - began) / clock)
                if done >= 1:
                    break
                if len(at) < batch:
                    continue
                trainer.optimizers["model"].lr = lr * min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * done))
                recent.append(trainer.step(to_float(digits.train_images[at]))["loss"] * bits)
                step += 1
                bar.update(min(done, 1) - bar.n)
                if step % 100 == 0:
                    found = np.array(recent[-500:])
                    spent, error = time.process_time() - start, found.std() / len(found) ** 0.5
                    print(f"  step {step}, {spent:.0f} s: {found.mean():.4f} +- {error:.4f} bits per dimension", flush=True)
                    if done - saved > 0.05:
                        mv.save(model, file)
                        saved = done
    print(f"{step} steps of {batch} images, {time.process_time() - start:.0f} s of one processor")
    mv.save(model, file)


model = mv.load(file) if file.exists() else fresh()
if model.channels != channels or not file.exists():
    model = fresh()
    train(model)

# %%
# The bound of test images, and its terms.  Beside it that of an untrained network, for the same noise: what pixels cost one by one.

images = digits.test_images[: stage.pick(asked, 60, 500, 5000)]
draws = stage.pick(asked, 1, 4, 2)
costs = layer_costs(model, images, root.split("draws"), draws)
alone = layer_costs(fresh(), images[:500], root.split("draws"), draws)
error = costs.bound.std() * bits / len(images) ** 0.5
share = np.array(level_frequencies(images))
entropy = -(share * np.log2(share)).sum()
print(f"\n{len(images)} test images, {draws} draws of one of 1,000 layers each; bits per dimension")
for name, values in (("p(x | z_0)", costs.reconstruction), ("layers", costs.layers), ("p(z_1)", costs.prior), ("bound", costs.bound)):
    print(f"  {name:12s}{values.mean() * bits:8.4f}" + (f" +- {error:.4f}" if name == "bound" else ""))
print(f"  untrained   {alone.bound.mean() * bits:8.4f}   the entropy of a level {entropy:.4f}")
gain = (alone.bound.mean() - costs.bound.mean()) * bits
stage.claim(
    f"the network saves {gain:.3f} bits a pixel, of {alone.bound.mean() * bits:.3f} that pixels cost one by one",
    gain > stage.pick(asked, 0.0, 0.3, 0.6),
)
VAE = 1.3932  # the best beta-binomial VAE of docs/compression.md, as coded
if not asked.tiny:
    stage.claim(
        f"the bound, {costs.bound.mean() * bits:.3f} +- {error:.3f} bits a pixel, is below what a beta-binomial VAE codes with, {VAE}",
        costs.bound.mean() * bits + 3 * error < VAE,
    )

# %%
# Where the bits are: each unit of the log of noise over signal costs so much.  Much noise is cheap, since digits are alike; the strokes are
# settled in the middle; little noise tells the gray levels at their edges.

bins = stage.pick(asked, 12, 24, 36)
figure = Figure(figsize=(8, 4.6), layout="constrained", facecolor="white")
above, ax = figure.subplots(2, 1, height_ratios=(1, 2.6))
for found, name, colour in ((alone, "each pixel by itself", FAINT), (costs, "the U-Net", PARTS[0])):
    edges, nats, errors = found.by_noise(bins)
    width = edges[1] - edges[0]
    ax.stairs(nats * bits / width, edges, fill=True, color=colour, label=f"{name}: {nats.sum() * bits:.3f} bits")
    ax.errorbar((edges[1:] + edges[:-1]) / 2, nats * bits / width, errors * bits / width, fmt="none", color=INK, linewidth=0.7)
ax.set(xlabel="log of noise over signal", ylabel="bits per dimension and unit", xlim=(model.low, model.high))
ax.set_ylim(0, 1.3 * ax.get_ylim()[1])
ax.legend(frameon=False, fontsize=SMALL, loc="upper right")
calm(ax)
x, noise = model.to_code(to_float(images[:1])), root.split("shown").normal((1, pixels))
shown = []
for k in range(9):  # each above the middle of its ninth of the axis
    a, s = scales(model.gamma((k + 0.5) / 9))
    shown.append(np.clip((a * x + s * noise).reshape(digits.image_shape) * 0.5 + 0.5, 0, 1))
above.imshow(np.concatenate(shown, axis=1)[..., 0], cmap="gray", aspect="equal")
above.set_axis_off()
above.set_title("an image, with more and more noise; below: what each noise costs", fontsize=TITLE, color=INK)
stage.save(figure, asked.out / "pixels_diffusion_bits.png")

# %%
# Samples, from the same noise: by all the noise that the model says, and by none (DDIM) with fewer and fewer steps.  Below them the
# training images that are nearest to the first row, pixel by pixel.

steps = stage.pick(asked, (10, 5, 2), (100, 50, 10), (250, 50, 10))
ways = [(f"{steps[0]} steps", steps[0], 1.0), *[(f"DDIM, {n}", n, 0.0) for n in steps[1:]]]
made = {}
for name, n, eta in ways:
    z = Chain(model, n, eta).sample(root.split("samples"), 10, like=np.zeros(1, np.float32))
    made[name] = np.clip(inference.decode_mean(model, z), 0, 1)
flat = rows("the nearest", to_float(digits.train_images))
at = np.concatenate([part.argmin(axis=1) for part in distances(rows("samples", made[ways[0][0]]), flat)])
pictures = np.stack([*made.values(), to_float(digits.train_images[at])])
title = f"A diffusion of pixels, {costs.bound.mean() * bits:.2f} bits each"
stage.save(
    plots.groups({"samples, and the nearest training images": pictures}, title, [*made, "nearest"]), asked.out / "pixels_diffusion.png"
)
