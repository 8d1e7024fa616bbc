"""Pictures against JPEG
=====================

A lossy codec is an autoencoder whose code is rounded and written to a file, trained for

.. math:: \\text{bits a pixel} + \\lambda\\, 255^2\\, |x - \\hat x|^2.

Rounding has no slope, so uniform noise stands for it in training: the VAE's :math:`q(z \\mid x)` with a fixed width, and the bits are its
KL.  (J. Balle, V. Laparra and E. P. Simoncelli, "End-to-end optimized image compression", 2017.)  Here real files are written and read
again, and stand beside JPEG and WebP on photos that training never saw.  ``python demos/jpeg_duel.py --out figures``; with ``--data-dir
PHOTOS`` it trains on the pictures of a folder, and without on five that come with scikit-image and scikit-learn, which is little.
"""

import io
from pathlib import Path

import numpy as np
import skimage
import stage
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_images

from minivae import Stream
from minivae.compress import LossyCoder
from minivae.compress.lossy import HEAD, ideal_bytes
from minivae.evaluate import blocking, ms_ssim, psnr
from minivae.models import Codec
from minivae.objectives import RateDistortion
from minivae.plots.layout import FAINT, INK, SMALL, TEXT, TITLE, calm

asked = stage.options(__doc__)
FOLDER = Path(skimage.__file__).parent / "data"
TEST = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
OTHERS = ("hubble_deep_field.jpg", "ihc.png", "retina.jpg")  # to train on, and no photo of the test's is near


def picture(file: Path) -> Image.Image:
    return Image.open(file).convert("RGB")


def halved(image: Image.Image) -> np.ndarray:
    """Twice for a large one: what JPEG left in it goes."""
    factor = 4 if min(image.size) > 1600 else 2
    return np.asarray(image.resize((image.width // factor, image.height // factor), Image.Resampling.LANCZOS))


# %%
# What it is trained on, patches at random places, half of them mirrored; and the photos of the test.

if asked.data_dir:
    files = sorted(f for f in asked.data_dir.rglob("*") if f.suffix.lower() in (".png", ".jpg", ".jpeg"))
    photos = [p for p in map(np.asarray, map(picture, files)) if min(p.shape[:2]) >= 64]
else:
    photos = [halved(Image.fromarray(x)) for x in load_sample_images().images] + [halved(picture(FOLDER / name)) for name in OTHERS]
side, count = stage.pick(asked, (32, 320), (64, 5000), (64, 16000))
draw = np.random.default_rng(asked.seed)
patches = []
for _ in range(count):
    photo = photos[draw.integers(len(photos))]
    i, j = (int(draw.integers(n - side + 1)) for n in photo.shape[:2])
    patches.append(photo[i : i + side, j : j + side][:, :: draw.choice([-1, 1])])
train = np.stack(patches)
test = {Path(name).stem: np.asarray(picture(FOLDER / name)) for name in stage.pick(asked, TEST[:2], TEST, TEST)}
if asked.tiny:
    test = {name: x[100:292, 150:342] for name, x in test.items()}
print(f"{count:,} patches of {len(photos)} pictures; test: {', '.join(test)}")

# %%
# One codec a rate: the first is trained from the beginning, the others go on from it with another weight of the error.

weights = stage.pick(asked, (0.02, 0.001), (0.0035, 0.0009, 0.0018, 0.0067), (0.0035, 0.0009, 0.0018, 0.0067))
first, more = stage.pick(asked, (10, 4), (6, 1), (20, 5))
size = {"channels": stage.pick(asked, 12, 32, 32), "latent": stage.pick(asked, 16, 48, 48)}
coders: dict[float, LossyCoder] = {}
start: dict[str, np.ndarray] = {}
for weight in weights:
    model = Codec((side, side, 3), Stream(asked.seed), **size)
    epochs, lr = (first, stage.pick(asked, 3e-3, 1.5e-3, 1e-3)) if not start else (more, 5e-4)
    if start:
        model.load_state(start)
    stage.train(
        model, train, epochs, objective=RateDistortion(weight), batch_size=8, lr=lr, lr_schedule="cosine", clip=50.0, seed=asked.seed
    )
    start = start or model.state()
    coders[weight] = LossyCoder(model)

# %%
# Real files, all bytes of them counted; the model, which the reader needs, is not.  JPEG halves the chroma's sides and optimizes its
# Huffman codes.


def pillow(x: np.ndarray, kind: str, quality: int) -> tuple[int, np.ndarray]:
    file = io.BytesIO()
    options = {"optimize": True, "subsampling": 2} if kind == "jpeg" else {"method": 6}
    Image.fromarray(x).save(file, kind, quality=quality, **options)
    return file.tell(), np.asarray(picture(file))  # type: ignore[arg-type]


def ours(x: np.ndarray, weight: float) -> tuple[int, np.ndarray]:
    file = coders[weight].compress(x)
    return len(file), coders[weight].decompress(file)


settings = {
    "JPEG": [lambda x, q=q: pillow(x, "jpeg", q) for q in stage.pick(asked, (5, 20, 60), (4, 7, 10, 15, 22, 35), (4, 7, 10, 15, 22, 35))],
    "WebP": [lambda x, q=q: pillow(x, "webp", q) for q in stage.pick(asked, (2, 30), (1, 6, 15, 30), (1, 6, 15, 30))],
    "ours": [lambda x, w=w: ours(x, w) for w in sorted(weights)],
}
sides_ok = all(min(x.shape[:2]) >= 176 for x in test.values())
stage.claim("every test photo is large enough for five scales", sides_ok)
curves: dict[str, np.ndarray] = {}  # (settings, photos, 4): bits a pixel, MS-SSIM, PSNR, blocking
for name, codecs in settings.items():
    rows = []
    for codec in codecs:
        found = [(x, *codec(x)) for x in test.values()]
        rows.append([(8 * n / x[..., 0].size, ms_ssim(x, y, 255), psnr(y, x, 255), blocking(y)) for x, n, y in found])
    curves[name] = np.array(rows)
    for bpp, similar, decibels, blocks in curves[name].mean(axis=1):
        print(f"{name:5s} {bpp:.3f} bits a pixel, MS-SSIM {similar:.4f}, PSNR {decibels:.2f} dB, blocking {blocks:.2f}")


def rate_at(curve: np.ndarray, similarity: float) -> float:
    """Mean bits a pixel at an MS-SSIM, between two settings of each photo; NaN where one of them does not reach it."""
    rates = []
    for k in range(curve.shape[1]):
        order = np.argsort(curve[:, k, 1])
        bpp, similar = curve[order, k, 0], curve[order, k, 1]
        inside = similar[0] <= similarity <= similar[-1]
        rates.append(np.exp(np.interp(similarity, similar, np.log(bpp))) if inside else np.nan)
    return float(np.mean(rates))


for similarity in stage.pick(asked, (), (0.88, 0.90, 0.92), (0.88, 0.90, 0.92, 0.95)):
    rates = {name: rate_at(curve, similarity) for name, curve in curves.items()}
    print(f"at MS-SSIM {similarity}: " + ", ".join(f"{name} {rate:.3f}" for name, rate in rates.items()) + " bits a pixel")
    if np.isfinite(list(rates.values())).all():
        told = [f"{'beats' if rates['ours'] < rates[name] else 'loses to'} {name}" for name in ("JPEG", "WebP")]
        print(f"  ours {' and '.join(told)}")

# %%
# What holds however long it was trained: a file gives the picture of its latents, and more weight on the error gives larger and better
# files.  That no grid of 8x8 blocks shows it has to learn: transposed convolutions of stride 2 begin with grids of their own.

x = next(iter(test.values()))
coder = coders[max(weights)]
file = coder.compress(x)
same = bool((coder.decompress(file) == coder.picture(coder.latents(x))[: x.shape[0], : x.shape[1]]).all())
stage.claim(f"{x.shape[0]}x{x.shape[1]} pixels in {len(file):,} bytes come back as the picture of the latents, to the byte", same)
said = ideal_bytes(coder, coder.latents(x))
stage.claim(
    f"they are as many as the tables' probabilities say, {said:.0f}, and {HEAD.size} of the header and 8 of the state",
    abs(len(file) - said - HEAD.size - 8) < 8 + coder.latents(x).size * 2**-16,
)
means = curves["ours"].mean(axis=1)
low, high = means[0], means[-1]
stage.claim(
    f"from the smallest weight to the largest, {low[0]:.3f} -> {high[0]:.3f} bits a pixel and {low[2]:.2f} -> {high[2]:.2f} dB",
    low[0] < high[0] and (asked.tiny or low[2] < high[2]),  # of hardly trained codecs the one that was trained longer may be better
)
jpeg, own = curves["JPEG"][0, :, 3].mean(), curves["ours"][-1, :, 3].mean()
if asked.tiny:
    print(f"hardly trained: blocking {own:.2f}, that of JPEG's smallest files {jpeg:.2f}")
else:
    text = f"edges of 8x8 blocks show in JPEG's smallest files, {jpeg:.2f} to 1, and hardly in our largest, {own:.2f}"
    stage.claim(text, own - 1 < (jpeg - 1) / 2)

# %%
# Rate against distortion.

COLOURS = {"JPEG": "#d1495b", "WebP": "#8d99ae", "ours": "#00798c"}
figure = Figure(figsize=(8, 3.4), layout="constrained", facecolor="white")
for k, label in ((1, "MS-SSIM"), (2, "PSNR, dB")):
    ax = figure.add_subplot(1, 2, k)
    for name, curve in curves.items():
        at = curve.mean(axis=1)
        ax.plot(at[:, 0], at[:, k], "o-", color=COLOURS[name], markersize=4, linewidth=1.5, label=name)
    ax.set_xlabel("bits a pixel, mean of the test photos", fontsize=TEXT, color=INK)
    ax.set_ylabel(label, fontsize=TEXT, color=INK)
    ax.grid(color=FAINT, linewidth=0.7)
    ax.set_xlim(0, 1.0)
    calm(ax)
figure.axes[0].legend(fontsize=SMALL, frameon=False)
stage.save(figure, asked.out / "jpeg_duel.png")

# %%
# One photo, and a part of it four times as large: JPEG at the quality that comes nearest to our MS-SSIM.

size_ours, ours_picture = ours(x, sorted(weights)[1])
goal = ms_ssim(x, ours_picture, 255)
tries = [pillow(x, "jpeg", q) for q in range(2, 60, stage.pick(asked, 6, 1, 1))]
size_jpeg, jpeg_picture = min(tries, key=lambda found: abs(ms_ssim(x, found[1], 255) - goal))
shown = {"original": (x.size, x), "JPEG": (size_jpeg, jpeg_picture), "ours": (size_ours, ours_picture)}
figure = Figure(figsize=(9, 6), layout="constrained", facecolor="white")
middle = [n // 3 for n in x.shape[:2]]
for k, (name, (n, y)) in enumerate(shown.items()):
    top, bottom = figure.add_subplot(2, 3, k + 1), figure.add_subplot(2, 3, k + 4)
    top.imshow(y)
    top.set_title(f"{name}, {n:,} bytes\nMS-SSIM {ms_ssim(x, y, 255):.3f}, blocking {blocking(y):.2f}", fontsize=TITLE - 2, color=INK)
    bottom.imshow(y[middle[0] : middle[0] + 64, middle[1] : middle[1] + 64], interpolation="nearest")
    for ax in (top, bottom):
        ax.set_axis_off()
stage.save(figure, asked.out / "jpeg_duel_pictures.png")
