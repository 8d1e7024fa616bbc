"""Counting what a GAN forgets: a thousand kinds of stacked digits
================================================================

Three digits drawn at random, one on each channel of a colour image, are one of 1,000 kinds (L. Metz et al., 2017). A classifier reads what
a generator makes, channel by channel, and counts the kinds. DCGAN, as published, made 99; with a critic that sees two images at a time,
so that it notices when they are alike, 1,000 (Z. Lin et al., "PacGAN", 2018, 50 epochs).  ``python demos/stacked.py --out figures``
"""

from typing import Any

import numpy as np
import stage

from minivae import Stream, Trainer, TrainingConfig, inference, plots
from minivae.evaluate import mode_count, stacked
from minivae.models import GAN, Classifier
from minivae.objectives import CrossEntropy, Gan

asked = stage.options(__doc__)
digits = stage.digits(asked)
samples = stage.pick(asked, 2000, 26_000, 26_000)

# %%
# Who reads them: a classifier of single digits.  Its mistakes count as kinds, too, so that the count is to be taken with its error.

eyes = Classifier(digits.image_shape, Stream(asked.seed))
seen = min(len(digits.train_images), 20_000)
stage.train(
    eyes, digits.train_images[:seen], stage.pick(asked, 2, 6, 2), digits.train_labels[:seen], CrossEntropy(), lr=2e-3, batch_size=64
)
few = slice(0, 2000)
error = (inference.classify(eyes, digits.test_images[few]) != digits.test_labels[few]).mean()


def kinds(images: Any) -> tuple[int, float]:
    return mode_count(np.stack([inference.classify(eyes, images[..., c : c + 1]) for c in range(3)], axis=1))


real, real_kl = kinds(stacked(digits.test_images, samples, Stream(asked.seed).split("real")))
print(f"the classifier is wrong about {error:.1%}; {samples} real images: {real} kinds, KL from equal frequencies {real_kl:.3f} nats")
# of n samples of 1,000 equal kinds (1 - 1/1000)^n are missing: 135 of 2,000, none of 26,000
stage.claim(f"real images are of {real} kinds", real >= stage.pick(asked, 780, 990, 990))

# %%
# The generator, with R1 and packs of two.

images = stacked(digits.train_images, stage.pick(asked, 640, 12_800, 12_800), Stream(asked.seed + 1))
model = GAN(images.shape[1:], Stream(asked.seed), latent=64, hidden=stage.pick(asked, (64,), (512, 256), (512, 256)))
trainer = Trainer(model, TrainingConfig(batch_size=64, lr=1e-3, seed=asked.seed), Gan(pack=2))
for epoch in range(1, stage.pick(asked, 3, 12, 40) + 1):
    trainer.epoch(images)
    if epoch % 4 == 0:
        found, kl = kinds(inference.sample(model, Stream(asked.seed + 3), samples))
        print(f"{200 * epoch} steps: {found} kinds of {samples} samples, KL {kl:.3f} nats", flush=True)
made = inference.sample(model, Stream(asked.seed + 3), samples)
found, kl = kinds(made)
stage.claim(f"the generator makes {found} kinds, where DCGAN made 99 as published", found > stage.pick(asked, 1, 300, 900))
stage.save(plots.samples(made[:40], "Stacked digits, made"), asked.out / "stacked.png")
