"""What an image costs at every level of noise: a diffusion as a compressor
========================================================================

A diffusion is a VAE whose layers of codes are images with more and more noise, and its bound on log p(x) is a sum with a term for each
layer. Divided by the number of pixels and by log 2 it is *bits per dimension*: what a pixel of 256 levels would cost in a file. Here a U-Net
is trained by that bound, and the bound is taken apart: which noise is it that costs the bits?  ``python demos/pixels_diffusion.py --out figures``

The network starts from what each pixel's noisy value tells of that pixel by itself, given how often each level occurs in the data. An
untrained network has that bound, close to the entropy of a pixel's level; all that is below it is what the network knows of neighbours.
"""

import math
import time

import numpy as np
import stage
from tqdm import tqdm

import minivae as mv
from minivae import Stream
from minivae.data import batch_indices, to_float
from minivae.models import Diffusion, level_frequencies
from minivae.objectives import NoisePrediction
from minivae.training import Trainer, TrainingConfig

asked = stage.options(__doc__)
digits = stage.digits(asked)
root = Stream(asked.seed)
channels, batch, lr = stage.pick(asked, ((4, 8), 32, 4e-3), ((8, 16, 32), 32, 3e-3), ((16, 32, 64), 32, 2e-3))
seconds, clock = stage.pick(asked, (6.0, 60.0), (150.0, 600.0), (2400.0, 3600.0))  # of one processor, or by the clock: what is first
file = asked.out / "pixels_diffusion.npz"
pixels = math.prod(digits.image_shape)

# %%
# Training, by the bound itself: one layer an image and step, the layers of a batch spread evenly.  The rate falls as the time is used up.


def fresh() -> Diffusion:
    frequencies = level_frequencies(digits.train_images)
    return Diffusion(digits.image_shape, root.split("weights"), arch="unet", channels=channels, frequencies=frequencies)


def train(model: Diffusion) -> None:
    """Prints the bound of the last steps' images now and then, and keeps the model in `file`."""
    trainer = Trainer(model, TrainingConfig(batch_size=batch, lr=lr, seed=asked.seed), NoisePrediction())
    trainer.step(to_float(digits.train_images[:batch]))  # compiles what is to be timed
    start, began, step, saved, recent = time.process_time(), time.time(), 0, 0.0, []
    with tqdm(total=1.0, desc="training", leave=False, delay=2) as bar:
        while (done := max((time.process_time() - start) / seconds, (time.time() - began) / clock)) < 1:
            for at in batch_indices(len(digits.train_images), batch, root.split(f"order {step}")):
                if len(at) < batch:
                    continue
                done = max((time.process_time() - start) / seconds, (time.time() - began) / clock)
                if done >= 1:
                    break
                trainer.optimizers["model"].lr = lr * min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * done))
                recent.append(trainer.step(to_float(digits.train_images[at]))["loss"] / pixels / math.log(2))
                step += 1
                bar.update(done - bar.n)
                if step % 100 == 0:
                    found = np.array(recent[-500:])
                    error = found.std() / len(found) ** 0.5
                    spent = time.process_time() - start
                    print(f"  step {step}, {spent:.0f} s: {found.mean():.4f} +- {error:.4f} bits per dimension", flush=True)
                    if done - saved > 0.05:
                        mv.save(model, file)
                        saved = done
    print(f"{step} steps of {batch} images, {time.process_time() - start:.0f} s of one processor")
    mv.save(model, file)


model = fresh()
train(model)
