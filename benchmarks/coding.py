"""How many images a second are coded and decoded, the networks included, by wall time:

    python benchmarks/coding.py --threads 2

A VAE of black and white digits, 784-100-z40, after three epochs of the package's own 4,500 digits; its 500 test digits over and over, in
blocks of 500.  --gray: bytes, by a beta-binomial of 784-200-z50.  --run: the model of a run on 28x28 digits.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--threads", type=int, default=2, help="that blocks are shared out to")
parser.add_argument("--images", type=int, default=10_000)
parser.add_argument("--block", type=int, default=500)
parser.add_argument("--repeats", type=int, default=7, help="the best and the median are told")
parser.add_argument("--gray", action="store_true", help="bytes by a beta-binomial")
parser.add_argument("--run", help="its folder, or a checkpoint")
asked = parser.parse_args()
os.environ |= {"NUMBA_NUM_THREADS": str(asked.threads), "OPENBLAS_NUM_THREADS": "1"}  # before they are loaded

import numpy as np  # noqa: E402

from minivae import VAE, Stream, Trainer, TrainingConfig, data, load  # noqa: E402
from minivae.compress import coder_of  # noqa: E402


def seconds(work: Callable[[], Any]) -> tuple[list[float], Any]:
    """Of each repetition, the first one, which compiles, left out; and what the work gives."""
    result, found = work(), []
    for _ in range(asked.repeats):
        start = time.perf_counter()
        result = work()
        found.append(time.perf_counter() - start)
    return found, result


digits = data.load("digits5k")
binary = {"likelihood": "bernoulli", "latent": 40, "hidden": (100,)}
gray = {"likelihood": "beta_binomial", "latent": 50, "hidden": (200,)}
if asked.run:
    model = load(asked.run)
else:
    model = VAE((28, 28, 1), Stream(0), **(gray if asked.gray else binary))
    trainer = Trainer(model, TrainingConfig(epochs=3, batch_size=64, binarize=not asked.gray))
    for _ in range(3):
        trainer.epoch(digits.train_images)
images = np.tile(digits.test_images, (-(-asked.images // 500), 1, 1, 1))[: asked.images]
if model.likelihood == "bernoulli":
    images = np.where(images > 127, np.uint8(255), np.uint8(0))
coder = coder_of(model)
took, blocks = seconds(lambda: coder.encode(images, asked.block))
times = {"encode": took}
times["decode"], back = seconds(lambda: coder.decode(blocks))
assert (back == images).all()
for name, took in times.items():
    best, median = (asked.images / each for each in (min(took), float(np.median(took))))
    print(f"{name}: {best:,.0f} images a second at best, {median:,.0f} in the median, wall time, {asked.threads} threads")
