"""A picture that becomes sharper with every byte
================================================

A recurrent codec writes a photo as bits, looks at what is missing, writes that as more bits, and goes on:

.. math:: b_t = \\text{sign}\\, E_t(x - \\hat x_{t-1}), \\qquad \\hat x_t = \\hat x_{t-1} + D_t(b_t).

E and D are the same networks at every iteration, with states that remember what was said.  One model serves all rates, and a file that is
cut after any iteration is a file of a coarser picture.  (G. Toderici et al., "Full resolution image compression with recurrent neural
networks", 2017; here at a quarter of the width.)  ``python demos/progressive.py --out figures``; with ``--data-dir PHOTOS`` it trains on the
pictures of a folder, and without on five that come with scikit-image and scikit-learn, which is little.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
import skimage
import stage
from PIL import Image
from sklearn.datasets import load_sample_images

from minivae import Stream, load
from minivae import save as save_model
from minivae.models import ProgressiveCodec
from minivae.objectives import Progressive

asked = stage.options(__doc__)
FOLDER = Path(skimage.__file__).parent / "data"
TEST = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
OTHERS = ("hubble_deep_field.jpg", "ihc.png", "retina.jpg")  # to train on, and no photo of the test's is near
SIDE, BATCH = 32, 8


def halved(image: Image.Image) -> np.ndarray:
    """Twice for a large one: what JPEG left in it goes."""
    factor = 4 if min(image.size) >= 1000 else 2
    return np.asarray(image.convert("RGB").resize((image.width // factor, image.height // factor), Image.Resampling.LANCZOS))


def detail(x: np.ndarray) -> float:
    """The mean difference of neighbours in a row."""
    return float(abs(np.diff(x[..., 1].astype(np.int16), axis=1)).mean())


# %%
# What it is trained on: patches of 32x32 at random places, half of them mirrored, each the one of four with most detail.  Files with
# transparent pixels are drawings, and are left out.  No photo of the test's is among them.

if asked.data_dir:
    files = sorted(f for f in asked.data_dir.rglob("*") if f.suffix.lower() in (".png", ".jpg", ".jpeg") and f.is_file())
    opened = (Image.open(f) for f in files)
    photos = [halved(image) for image in opened if image.mode == "RGB" and min(image.size) >= 8 * SIDE]
else:
    photos = [halved(Image.fromarray(x)) for x in load_sample_images().images] + [halved(Image.open(FOLDER / name)) for name in OTHERS]
count = stage.pick(asked, 320, 4000, 16000)
draw = np.random.default_rng(asked.seed)


def patch() -> np.ndarray:
    photo = photos[draw.integers(len(photos))]
    corners = [[int(draw.integers(n - SIDE + 1)) for n in photo.shape[:2]] for _ in range(4)]
    return max((photo[i : i + SIDE, j : j + SIDE] for i, j in corners), key=detail)[:, :: draw.choice([-1, 1])]


train = np.stack([patch() for _ in range(count)])
test = {Path(name).stem: np.asarray(Image.open(FOLDER / name).convert("RGB")) for name in stage.pick(asked, TEST[:2], TEST, TEST)}
if asked.tiny:
    test = {name: x[100:292, 150:342] for name, x in test.items()}
print(f"{count:,} patches of {len(photos)} pictures; test: {', '.join(test)}")

# %%
# Training unrolls one iteration at first, then more: a step costs as much as there are iterations, and what the first learns the others
# begin with.  What is trained is kept in --out, so that a run that finds it there goes on from it.

plan = stage.pick(  # (iterations, epochs, learning rate, its schedule)
    asked,
    ((1, 4, 4e-3, "constant"), (3, 3, 2e-3, "cosine")),
    ((1, 2, 2e-3, "constant"), (2, 1, 1e-3, "constant"), (4, 1, 1e-3, "constant"), (8, 1, 1e-3, "cosine")),
    ((1, 2, 2e-3, "constant"), (2, 2, 1e-3, "constant"), (4, 2, 1e-3, "constant"), (8, 8, 1e-3, "cosine")),
)
size = stage.pick(asked, {"width": 6, "bits": 16}, {"width": 16, "bits": 32}, {"width": 16, "bits": 32})
model = ProgressiveCodec((SIDE, SIDE, 3), Stream(asked.seed), **size)
digest = hashlib.sha256(repr((size, BATCH, asked.seed)).encode() + train.tobytes())
for iterations, epochs, lr, schedule in plan:
    digest.update(repr((iterations, epochs, lr, schedule)).encode())
    file = asked.out / f"progressive_{iterations}_{digest.hexdigest()[:8]}.npz"
    if file.exists():
        model = load(file)
        print(f"found {file}")
        continue
    options = {"batch_size": BATCH, "lr": lr, "lr_schedule": schedule, "clip": 1000.0, "seed": asked.seed}
    reports = stage.train(model, train, epochs, objective=Progressive(iterations), name=f"{iterations} iterations", **options)
    told = f"{reports[-1]['loss']:.2f} levels, after the first {reports[-1]['first']:.2f}, after the last {reports[-1]['last']:.2f}"
    print(f"{iterations} iterations, {epochs} epochs: the mean error is {told}", flush=True)
    save_model(model, file)
