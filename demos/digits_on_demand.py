"""
Digits on demand
================

A conditional VAE is told which digit an image shows, when it encodes and when it decodes:

.. math:: \\log p(x \\mid c) \\ge E_{q(z \\mid x, c)} \\log p(x \\mid z, c) - \\mathrm{KL}(q(z \\mid x, c) \\,\\|\\, p(z))

The code need not say what the label says already.  What is left for it is the style; so a digit can be asked for, and the style of one
digit given to another.  A classifier that has only seen real digits judges what is drawn.

``python demos/digits_on_demand.py --out figures``
"""

import numpy as np
import stage

from minivae import Stream, no_grad, plots
from minivae.data import to_float
from minivae.distributions import Categorical
from minivae.models import CVAE
from minivae.nn import Dense, Flatten, Sequential

asked = stage.options(__doc__)
digits = stage.digits(asked)
rng = Stream(asked.seed)
epochs, judge_epochs = stage.pick(asked, (30, 14), (40, 45), (20, 20))
batch_size = stage.pick(asked, 50, 50, 100)

# %%
# The judge is a layer of 300 units with ten logits, trained on the real digits.

weights = rng.split("judge")
judge = Sequential(Flatten(), Dense(digits.train_images[0].size, 300, weights, "relu"), Dense(300, 10, weights))


def log_prob(at: np.ndarray):
    return Categorical(judge(to_float(digits.train_images[at]))).log_prob(digits.train_labels[at])


def agreement(images: np.ndarray, labels: np.ndarray) -> float:
    """The share of the images that the judge reads as the labels."""
    with no_grad():
        return float((judge(images).data.argmax(axis=1) == labels).mean())


stage.fit(judge, log_prob, len(digits.train_images), judge_epochs, rng.split("order"), weight_decay=1e-3)
read, least = agreement(to_float(digits.test_images), digits.test_labels), stage.pick(asked, 0.9, 0.93, 0.975)
stage.claim(f"the judge reads {read:.1%} of the real test digits, at least {least:.1%}", read >= least)

# %%
# The CVAE is trained on the same digits and their labels.  Then each column of the figure asks for its digit, with codes from the prior.

model = CVAE(digits.image_shape, rng.split("weights"), condition=10, latent=5, hidden=(300,))
settings = {"batch_size": batch_size, "lr": 2e-3, "seed": asked.seed}
terms = stage.train(model, digits.train_images, epochs, digits.train_labels, **settings)[-1]
print(f"-ELBO {terms['loss']:.1f} nats, of which the KL is {terms['kl']:.1f}")

wanted = np.arange(1000) % 10
conditioned = model.condition(wanted)
drawn = conditioned.decode_mean(conditioned.sample_prior(rng.split("prior"), len(wanted)))
agrees, least = agreement(drawn, wanted), stage.pick(asked, 0.85, 0.9, 0.95)
stage.claim(f"the judge agrees with {agrees:.1%} of the digits on demand, at least {least:.0%}", agrees >= least)
stage.save(plots.samples(drawn[:100], "Digits on demand: each column was asked for its digit"), asked.out / "digits_on_demand.png")

# %%
# A test digit's code, decoded with another label, is that digit in the first one's hand.  Bold stays bold: the ink of the ten
# versions rises and falls together.

images, labels = to_float(digits.test_images[:200]), digits.test_labels[:200]
with no_grad():
    z = model.condition(labels).encode(images).mean.data
each = np.stack([model.condition(np.array([digit])).decode_mean(z) for digit in range(10)], axis=1)  # (200, 10, H, W, C)
same = agreement(each.reshape(-1, *digits.image_shape), np.tile(np.arange(10), len(z)))
stage.claim(f"with the style of a test digit and another label, the judge sees that label: {same:.1%}", same >= least - 0.05)
ink = each.sum(axis=(2, 3, 4))
alike = np.corrcoef(ink.T)[np.triu_indices(10, 1)].mean()
stage.claim(f"the style goes along: ink correlates by {alike:.2f} between digits", alike > 0.5)
columns = {"test digit": images[:10, None], "its style, as each digit from 0 to 9": each[:10]}
stage.save(plots.groups(columns, "One hand, ten digits"), asked.out / "style.png")
