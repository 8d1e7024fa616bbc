"""Colours for gray photos
=======================

A gray picture leaves its colours open.  A network that is trained to say them by least squares says their mean; a conditional VAE draws:
:math:`z \\sim p(z \\mid L)`, then the colours by :math:`p(a, b \\mid z, L)`, and each :math:`z` is another colouring of the same picture.

Colours are CIE :math:`L^* a^* b^*`.  The lightness :math:`L^*` is what a gray picture has; :math:`a^*` and :math:`b^*` are wanted, at half
the resolution.  ``python demos/colour_photos.py --out figures``; with ``--data-dir FOLDER`` the photos of that folder take the place of the
seven that come with scikit-image and scikit-learn.
"""

from pathlib import Path

import numpy as np
import skimage
import stage
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_images

from minivae import Stream, no_grad, plots
from minivae.applications import colorize
from minivae.data.colour import CHROMA, coloured, lightness_and_chroma
from minivae.distributions import Gaussian
from minivae.evaluate.colour import best_of, colourfulness
from minivae.models import MixtureCVAE
from minivae.nn import Dense, Flatten, Reshape, Sequential
from minivae.plots.layout import FAINT, INK, SMALL, TEXT, TITLE, calm

asked = stage.options(__doc__)
root = Stream(asked.seed)

# %%
# Seven photos are next to nothing: what a model learns from five of them is these five.  They are split by photo, so that no patch of
# a photo of the test was trained on; with a folder of your own a quarter of its pictures is the test.

FOLDER = Path(skimage.__file__).parent / "data"
TRAIN, TEST = ("coffee.png", "rocket.jpg", "motorcycle_left.png"), ("astronaut.png", "chelsea.png")
LARGEST = 256  # pixels of a photo's longer side, so that a patch of 32 has something on it


def reduced(image: Image.Image) -> np.ndarray:
    image = image.convert("RGB")
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(image)


if asked.data_dir:
    files = sorted(f for f in asked.data_dir.rglob("*") if f.suffix.lower() in (".png", ".jpg", ".jpeg"))
    every = [p for p in (reduced(Image.open(f)) for f in files) if min(p.shape[:2]) >= 32]
    learnt, unseen = [p for j, p in enumerate(every) if j % 4], every[::4]
else:
    learnt = [reduced(Image.fromarray(p)) for p in load_sample_images().images] + [reduced(Image.open(FOLDER / name)) for name in TRAIN]
    unseen = [reduced(Image.open(FOLDER / name)) for name in TEST]


def patches(photos: list[np.ndarray], count: int, name: str) -> np.ndarray:
    """Of 32x32 pixels at random places, half of them mirrored, as many from each photo.     -> (count, 32, 32, 3) bytes"""
    u = root.split(name).uniform((count, 3))
    found = []
    for j, (down, right, mirror) in enumerate(u):
        p = photos[j % len(photos)]
        row, column = int(down * (p.shape[0] - 31)), int(right * (p.shape[1] - 31))
        found.append(p[row : row + 32, column : column + 32][:, :: -1 if mirror < 0.5 else 1])
    return np.stack(found)


count, tests, draws = stage.pick(asked, (400, 60, 10), (4000, 300, 20), (12000, 500, 20))
rgb_test = patches(unseen, tests, "test patches")
(light, chroma), (light_test, chroma_test) = (lightness_and_chroma(p) for p in (patches(learnt, count, "patches"), rgb_test))
print(f"{count:,} patches of {len(learnt)} photos; {tests} of {len(unseen)} others to test")

# %%
# L* of 32x32 pixels -> a*, b* of 16x16, 32 latents, a Laplace likelihood whose scale is learned, from the data's own on.  Not ReLUs: all
# of a thousand inputs are positive, and a few steps in one direction leave such a layer dead.

wide = stage.pick(asked, 64, 256, 256)
model = MixtureCVAE(
    (16, 16, 2), root.split("photos"), condition=1024, components=8, latent=32, hidden=(wide,), likelihood="laplace", activation="silu"
)
model.log_scale.data[...] = np.log(abs(chroma - np.median(chroma, axis=0)).mean())
rounds, batch = stage.pick(asked, (40, 50), (12, 100), (12, 100))
report = stage.train(
    model, chroma, rounds, light.reshape(count, -1), name="photos", batch_size=batch, lr_schedule="cosine", seed=asked.seed
)
print(f"KL {report[-1]['kl']:.1f} nats, scale {CHROMA * np.exp(float(model.log_scale.data)):.1f} of a* and b*")
net = Sequential(
    Flatten(),
    Dense(1024, wide, root.split("net"), "silu"),
    Dense(wide, wide, root.split("net, 2"), "silu"),
    Dense(wide, 512, root.split("net, 3")),
    Reshape(16, 16, 2),
)
stage.fit(
    net,
    lambda i: Gaussian(net(light[i]), 0.0, 3).log_prob(chroma[i]),
    count,
    rounds // stage.pick(asked, 4, 1, 1),
    root.split("photos, order"),
)

# %%
# A draw is judged by the distance of its colours from the photo's, root mean square of (a*, b*) over a patch, and the best of k draws by
# the nearest.  That alone any scatter of colours improves with k; so beside it stand the colours of k patches of the training photos,
# taken blindly.


def distance(ab: np.ndarray) -> np.ndarray:
    """(..., N, 16, 16, 2) -> (..., N), in units of a* and b*"""
    return CHROMA * np.sqrt(((ab - chroma_test) ** 2).sum(axis=-1).mean(axis=(-2, -1)))


gray_bytes = np.rint(255 * coloured(light_test, 0 * chroma_test).rgb[..., 1]).astype(np.uint8)
found = colorize(model, gray_bytes, root.split("colorize"), draws)
blind = chroma[root.split("blind").permutation(draws * tests) % count].reshape(draws, *chroma_test.shape)
with no_grad():
    regressed = net(light_test).numpy()
ks = [k for k in (1, 2, 5, 10, 20) if k <= draws]
curves = {name: best_of(distance(ab), ks).mean(axis=1) for name, ab in (("draws", found.chroma), ("blind draws", blind))}
single = {"regression": distance(regressed).mean(), "no colour": distance(0 * chroma_test).mean()}
for name, curve in curves.items():
    print(f"{name}: best of " + ", ".join(f"{k} {error:.2f}" for k, error in zip(ks, curve, strict=True)))
print(", ".join(f"{name} {error:.2f}" for name, error in single.items()))
among = CHROMA * np.sqrt(found.chroma.var(axis=0).sum(axis=-1).mean())
spread = CHROMA * np.sqrt(chroma_test.reshape(-1, 2).var(axis=0).sum())
pictures = {"photos": rgb_test / 255.0, "draws": found.rgb[0], "regression": coloured(light_test, regressed).rgb}
vivid = {name: colourfulness(p).mean() for name, p in pictures.items()}
print("colourfulness: " + ", ".join(f"{name} {value:.1f}" for name, value in vivid.items()))
print(f"{found.outside:.1%} of the pixels that were drawn are outside of sRGB, and had their chroma reduced")
stage.claim(f"draws of one patch differ, by {among:.1f} (root mean square); all colours of the test by {spread:.1f}", among > 0.1 * spread)
last = {name: curve[-1] for name, curve in curves.items()} | single
stage.claim(
    f"the best of {ks[-1]} draws is nearer than regression and than the best of as many blind ones: "
    + ", ".join(f"{last[name]:.2f}" for name in ("draws", "regression", "blind draws")),
    last["draws"] < min(last["regression"], last["blind draws"]),
)

# %%

i = np.linspace(0, tests - 1, 6).astype(int)
columns = {
    "gray": coloured(light_test[i], 0 * chroma_test[i]).rgb[:, None],
    "photo": pictures["photos"][i][:, None],
    "regression": pictures["regression"][i][:, None],
    "draws": found.rgb[:6, i].swapaxes(0, 1),
}
stage.save(plots.groups(columns, f"Patches of photos that {len(learnt)} others have taught colours"), asked.out / "colour_photos.png")
figure = Figure(figsize=(5, 3.4), layout="constrained", facecolor="white")
ax = figure.add_subplot()
for (name, curve), hue, mark in zip(curves.items(), ("#0072B2", "#E69F00"), ("o-", "s--"), strict=True):
    ax.plot(ks, curve, mark, color=hue, markersize=4, linewidth=1.5, label={"draws": "best of k draws"}.get(name, "best of k blind draws"))
for (name, error), dashes in zip(single.items(), ("-.", ":"), strict=True):
    ax.axhline(error, color=INK, linestyle=dashes, linewidth=1, label=name)
ax.set_xscale("log")
ax.set_xticks(ks, [str(k) for k in ks])
ax.minorticks_off()
ax.set_xlabel("k", fontsize=TEXT, color=INK)
ax.set_ylabel("distance from the photo's a*, b*", fontsize=TEXT, color=INK)
ax.set_title(f"{tests} patches of {len(unseen)} photos", fontsize=TITLE, color=INK)
ax.set_ylim(0)
ax.grid(color=FAINT, linewidth=0.7)
ax.legend(fontsize=SMALL, frameon=False)
stage.save(calm(ax).get_figure(), asked.out / "colour_best_of.png")
