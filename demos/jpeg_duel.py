"""Pictures against JPEG
=====================

A lossy codec is an autoencoder whose code is rounded and written to a file, trained for

.. math:: \\text{bits a pixel} + \\lambda\\, 255^2\\, |x - \\hat x|^2.

Rounding has no slope, so uniform noise stands for it in training: the VAE's :math:`q(z \\mid x)` with a fixed width, and the bits are its
KL.  (J. Balle, V. Laparra and E. P. Simoncelli, "End-to-end optimized image compression", 2017.)  Here real files are written and read
again, and stand beside JPEG, WebP and JPEG XL on photos that training never saw.  ``python demos/jpeg_duel.py --out figures --data-dir
PHOTOS`` trains on the pictures of a folder; without one it trains on five that come with scikit-image and scikit-learn, which is little.
Some fifty photos come with Debian's wallpapers, and need no root:
``apt-get download lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds lxqt-themes``, and
``for f in *.deb; do dpkg -x $f PHOTOS; done``.
"""

import hashlib
import io
from collections.abc import Callable

import numpy as np
import photos
import stage
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from minivae import Stream, load
from minivae import save as save_model
from minivae.compress import LossyCoder
from minivae.compress.lossy import HEAD, ideal_bytes
from minivae.evaluate import blocking, ms_ssim, psnr
from minivae.models import Codec
from minivae.objectives import RateDistortion
from minivae.plots.layout import FAINT, INK, SMALL, TEXT, TITLE, calm

try:
    import pillow_jxl  # Pillow knows JPEG XL from here on
except ImportError:
    pillow_jxl = None

asked = stage.options(__doc__)

# %%
# What it is trained on: patches at random places, half of them mirrored, each the one of four with most detail, since photos have large
# parts out of focus, from which there is little to learn.  Files with transparent pixels are drawings, and are left out.  The photos of
# scikit-learn are for the test where there are others to train on.

side, count = stage.pick(asked, (32, 320), (64, 5000), (64, 16000))
pictures = [x for x in photos.to_train(asked) if min(x.shape[:2]) >= side]
train = photos.patches(pictures, side, count, asked.seed)
test = photos.to_test(asked) | (photos.samples() if asked.data_dir else {})
print(f"{count:,} patches of {len(pictures)} pictures; test: {', '.join(test)}")

# %%
# One codec a weight of the error: the first is trained from the beginning, each other one goes on from the nearest.  They are kept in
# --out; a run that finds one of the same patches and settings there does not train it again.

weights = stage.pick(asked, (0.02, 0.001), (0.0035, 0.001, 0.0003, 0.01), (0.0035, 0.0018, 0.0067, 0.013, 0.0009, 0.0003))
first, more = stage.pick(asked, ((10, 3e-3), (4, 5e-4)), ((6, 2e-3), (1, 1e-3)), ((10, 2e-3), (1, 1e-3)))  # epochs, learning rate
size = {"channels": stage.pick(asked, 12, 32, 32), "latent": stage.pick(asked, 16, 48, 48)}
models: dict[float, Codec] = {}
keys = {None: hashlib.sha256(train).hexdigest()}  # of all that a codec was made of


def trained(weight: float) -> Codec:
    start = min(models, key=lambda other: abs(np.log(other / weight)), default=None)
    epochs, lr = more if models else first
    keys[weight] = hashlib.sha256(repr((keys[start], weight, epochs, lr, size, asked.seed)).encode()).hexdigest()
    file = asked.out / f"jpeg_duel_{weight}_{keys[weight][:8]}.npz"
    if file.exists():
        print(f"found {file}")
        return load(file)
    model = Codec((side, side, 3), Stream(asked.seed), **size)
    if start:
        model.load_state(models[start].state())
    plan = {"batch_size": 8, "lr": lr, "lr_schedule": "cosine", "clip": 50.0, "seed": asked.seed}
    reports = stage.train(model, train, epochs, objective=RateDistortion(weight), name=f"weight {weight}", **plan)
    print(f"weight {weight}: {epochs} epochs, loss {reports[0]['loss']:.3f} -> {reports[-1]['loss']:.3f}", flush=True)
    save_model(model, file)
    return model


for weight in weights:
    models[weight] = trained(weight)
coders = {weight: LossyCoder(models[weight]) for weight in sorted(weights)}

# %%
# Real files, all bytes of them counted; the model, which the reader needs, is not.  JPEG halves the chroma's sides and optimizes its
# Huffman codes.


def pillow(x: np.ndarray, kind: str, quality: int) -> tuple[int, np.ndarray]:
    file = io.BytesIO()
    options = {"jpeg": {"optimize": True, "subsampling": 2}, "webp": {"method": 6}, "jxl": {"effort": 7, "num_threads": 1}}[kind]
    Image.fromarray(x).save(file, kind, quality=quality, **options)
    return file.tell(), np.asarray(Image.open(file).convert("RGB"))


def ours(x: np.ndarray, weight: float) -> tuple[int, np.ndarray]:
    file = coders[weight].compress(x)
    return len(file), coders[weight].decompress(file)


def qualities(kind: str, *values: int) -> list[Callable]:
    return [lambda x, q=q: pillow(x, kind, q) for q in values]


jpegs, webps, jxls = stage.pick(
    asked, ((5, 20, 60), (2, 30), (2, 30)), *[((4, 7, 10, 15, 22, 35), (0, 5, 15, 30, 50), (0, 10, 25, 40, 60))] * 2
)
duel = {"JPEG": qualities("jpeg", *jpegs), "WebP": qualities("webp", *webps), "JPEG XL": qualities("jxl", *jxls)}
if pillow_jxl is None:
    print("JPEG XL is left out: Pillow writes it with the plugin pillow-jxl-plugin, which is not installed")
    del duel["JPEG XL"]
duel["ours"] = [lambda x, w=w: ours(x, w) for w in coders]
stage.claim("every test photo is large enough for five scales", all(min(x.shape[:2]) >= 176 for x in test.values()))
curves: dict[str, np.ndarray] = {}  # (settings, photos, 4): bits a pixel, MS-SSIM, PSNR, blocking
for name, codecs in duel.items():
    rows = []
    for codec in codecs:
        found = [(x, *codec(x)) for x in test.values()]
        rows.append([(8 * n / x[..., 0].size, ms_ssim(x, y, 255), psnr(y, x, 255), blocking(y)) for x, n, y in found])
    curves[name] = np.array(rows)
    for bpp, similar, decibels, blocks in curves[name].mean(axis=1):
        print(f"{name:7s} {bpp:.3f} bits a pixel, MS-SSIM {similar:.4f}, PSNR {decibels:.2f} dB, blocking {blocks:.2f}", flush=True)

# %%
# The rate at one MS-SSIM, of each photo between two settings and then the mean.  Where the smallest file of a photo is better than asked,
# its size stands for a smaller one, and "at most" is said of the mean.


def rate_at(curve: np.ndarray, similarity: float) -> tuple[float, bool]:
    """(mean bits a pixel at an MS-SSIM, whether it is that and no bound); NaN where a photo does not reach it."""
    at, exact = [], True
    for k in range(curve.shape[1]):
        order = np.argsort(curve[:, k, 1])
        bpp, similar = curve[order, k, 0], curve[order, k, 1]
        at.append(np.exp(np.interp(similarity, similar, np.log(bpp))) if similarity <= similar[-1] else np.nan)
        exact = exact and bool(similar[0] <= similarity)
    return float(np.mean(at)), exact


for similarity in stage.pick(asked, (), (0.88, 0.90, 0.92), (0.88, 0.90, 0.92, 0.95)):
    at = {name: rate_at(curve, similarity) for name, curve in curves.items()}
    told = [f"{name} {'' if exact else 'at most '}{rate:.3f}" for name, (rate, exact) in at.items() if np.isfinite(rate)]
    print(f"at MS-SSIM {similarity}: {', '.join(told)} bits a pixel")
    if asked.full and asked.data_dir and similarity == 0.90:
        (jpeg, exact), (own, inside) = at["JPEG"], at["ours"]
        text = f"at MS-SSIM 0.90 our files take {'' if inside else 'at most '}{own:.3f} bits a pixel, those of JPEG {jpeg:.3f}"
        stage.claim(text, exact and own < jpeg)

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

STYLE = {"JPEG": ("#d1495b", "o"), "WebP": ("#8d99ae", "s"), "JPEG XL": ("#edae49", "^"), "ours": ("#00798c", "D")}
figure = Figure(figsize=(8.5, 3.6), layout="constrained", facecolor="white")
for k, label in ((1, "MS-SSIM"), (2, "PSNR, dB")):
    ax = figure.add_subplot(1, 2, k)
    for name, curve in curves.items():
        mean, (colour, marker) = curve.mean(axis=1), STYLE[name]
        ax.plot(
            mean[:, 0], mean[:, k], "-", marker=marker, color=colour, markersize=4.5, linewidth=2 if name == "ours" else 1.4, label=name
        )
    ax.set_xlabel(f"bits a pixel, mean of {len(test)} photos", fontsize=TEXT, color=INK)
    ax.set_ylabel(label, fontsize=TEXT, color=INK)
    ax.grid(color=FAINT, linewidth=0.7)
    ax.set_xlim(0, max(0.7, 1.1 * high[0]))
    calm(ax)
figure.axes[0].legend(fontsize=SMALL, frameon=False, loc="lower right")
stage.save(figure, asked.out / "jpeg_duel.png")

# %%
# One photo, and a part of it four times as large: JPEG at the quality that comes nearest to our MS-SSIM.

size_ours, ours_picture = ours(x, sorted(weights)[len(weights) // 4])
goal = ms_ssim(x, ours_picture, 255)
tries = [pillow(x, "jpeg", q) for q in range(2, 40, stage.pick(asked, 6, 1, 1))]
size_jpeg, jpeg_picture = min(tries, key=lambda found: abs(ms_ssim(x, found[1], 255) - goal))
shown = {"original": (x.size, x), "JPEG": (size_jpeg, jpeg_picture), "ours": (size_ours, ours_picture)}
figure = Figure(figsize=(9.6, 7), layout="constrained", facecolor="white")
h, w = (n // 4 for n in x.shape[:2])
i, j = x.shape[0] // 8, x.shape[1] * 5 // 16
for k, (name, (n, y)) in enumerate(shown.items()):
    top, bottom = figure.add_subplot(2, 3, k + 1), figure.add_subplot(2, 3, k + 4)
    top.imshow(y)
    top.add_patch(Rectangle((j - 0.5, i - 0.5), w, h, fill=False, edgecolor="white", linewidth=1.2))
    judged = "without loss" if name == "original" else f"MS-SSIM {ms_ssim(x, y, 255):.3f}"
    top.set_title(
        f"{name}: {n:,} bytes{' of pixels' if name == 'original' else ''}\n{judged}, blocking {blocking(y):.2f}",
        fontsize=TITLE - 2,
        color=INK,
    )
    bottom.imshow(y[i : i + h, j : j + w], interpolation="nearest")
    for ax in (top, bottom):
        ax.set_axis_off()
figure.supxlabel("below: the framed part, four times as large", fontsize=SMALL, color=INK)
stage.save(figure, asked.out / "jpeg_duel_pictures.png")
