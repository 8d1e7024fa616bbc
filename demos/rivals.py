"""VAE, VAE-GAN, GAN and diffusion in one table, beside real images
===================================================================

The lectures end with a comparison: VAEs are sound and blurry, GANs are sharp and unstable, diffusion is both good and slow. Here all of
them are trained on the same digits, for the same seconds of processor time, and judged by the same judges. Beside them stand real
images that were held back: a judge's number means something only next to theirs.  ``python demos/rivals.py --out figures``

The judges look at features of a classifier that is trained first, on the same digits with their labels. Where a model has a likelihood, a
bound on it stands in the table, too. ``docs/rivals.md`` takes the lecture's comparison sentence by sentence.
"""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import stage
from matplotlib.figure import Figure
from tqdm import tqdm

import minivae as mv
from minivae import VAE, Stream, inference, plots
from minivae.data import binarize, to_float
from minivae.evaluate import frechet_distance, layer_costs, likeness, mode_count, sharpness
from minivae.evaluate.neighbours import distances, rows
from minivae.models import GAN, Classifier, Diffusion, VampVAE, level_frequencies
from minivae.models.diffusion import Chain
from minivae.objectives import CrossEntropy, Gan, NoisePrediction, VaeGan
from minivae.plots.bars import PARTS
from minivae.plots.layout import INK, SMALL, TITLE, calm
from minivae.training import Trainer, TrainingConfig

asked = stage.options(__doc__)
digits = stage.digits(asked)
budget, seeds = stage.pick(asked, 2.0, 15.0, 30.0), stage.pick(asked, 1, 3, 3)  # seconds of processor time a model, and trainings
channels, steps = stage.pick(asked, (4, 8), (16, 32, 64), (16, 32, 64)), stage.pick(asked, 10, 25, 25)  # of the diffusion of pixels
train, test = digits.train_images, digits.test_images
count = min(len(test) // 2, stage.pick(asked, 250, 250, 1000))  # images in every set that is judged
shuffled = Stream(asked.seed).split("test images").permutation(len(test))  # MNIST's first 5,000 are other writers' than its last
against, held = test[shuffled[:count]], test[shuffled[count : 2 * count]]  # what all are compared with; real images, held out
per_dimension = 1 / math.prod(digits.image_shape) / math.log(2)  # bits, of a nat an image

SAMPLES = 50  # importance samples an image, for the bound of a VAE

# %%
# The judge's eyes: a convolutional classifier, and the 64 numbers behind its last relu.

eyes = Classifier(digits.image_shape, Stream(asked.seed).split("weights of the classifier"))
stage.train(eyes, train, stage.pick(asked, 2, 6, 3), digits.train_labels, CrossEntropy(), "classifier", lr=2e-3, batch_size=64)
error = (inference.classify(eyes, test) != digits.test_labels).mean()
print(f"the classifier is wrong about {error:.1%} of {len(test)} test images")
reference = inference.features(eyes, against)


# %%
# Each rival trains until its seconds are used up. They are seconds of processor time, summed over all threads, so that other work on the
# machine costs a rival nothing; compiling the kernels is not counted, evaluation neither.


class TimeIsUp(Exception):
    """Ends a training."""


def trained(name: str, model: Any, images: np.ndarray, seconds: float, objective: Any, seed: int, **settings: Any) -> Any:
    """The model, in evaluation mode, after so many seconds of processor time."""
    batch = settings.get("batch_size", 128)
    Trainer(deepcopy(model), TrainingConfig(seed=seed, **settings), objective).epoch(images[: 2 * batch])  # compiles what is to be timed
    trainer, taken = Trainer(model, TrainingConfig(seed=seed, **settings), objective), 0
    start = time.process_time()
    with tqdm(total=seconds, desc=name, leave=False, delay=2, bar_format="{desc}: {n:.0f} of {total:.0f} s {bar}") as bar:

        def after_a_step(done: int, loss: float) -> None:
            nonlocal taken
            taken += 1
            spent = time.process_time() - start
            bar.update(min(spent, seconds) - bar.n)
            if spent >= seconds:
                raise TimeIsUp

        try:
            while True:
                trainer.epoch(images, progress=after_a_step)
        except TimeIsUp:
            model.train(False)
    print(f"  {name}: {taken} steps of {batch}, {taken * batch / len(images):.1f} times all images", flush=True)
    return model


# %%
# The rivals, and with each what bounds its likelihood, if it has one.
#
# Likelihoods can be compared only where they are of the same data. A Bernoulli is a likelihood of black and white: its bounds are of test
# images whose pixels are drawn black or white, in nats an image. A likelihood of the 256 gray levels, in bits a dimension, have a VAE with
# beta-binomial pixels and the diffusion of pixels. A GAN has none: it makes images, and says of no image how probable it is. A VAE-GAN's
# decoder is never asked how probable a pixel is, either: what it reconstructs are the critic's features.


class Rival(NamedTuple):
    sample: Callable[[Stream, int], np.ndarray]
    nats: float = math.nan  # at least -log p of a black and white image
    bits: float = math.nan  # at least -log2 p a dimension, of a gray image


def vae(seed: int, rng: Stream) -> Rival:
    return of_black_and_white("VAE", VAE(digits.image_shape, rng), seed, rng)


def learned_prior(seed: int, rng: Stream) -> Rival:
    """The same networks, and in the place of N(0, I) a mixture of what the encoder makes of learned images."""
    return of_black_and_white("VAE with a VampPrior", VampVAE(digits.image_shape, rng, pseudo=stage.pick(asked, 50, 200, 200)), seed, rng)


def of_black_and_white(name: str, model: Any, seed: int, rng: Stream) -> Rival:
    trained(name, model, train, budget, None, seed)
    nats = -inference.bound(model, against, rng.split("importance samples"), SAMPLES, binarized=Stream(asked.seed).split("bits")).mean()
    return Rival(lambda noise, n: inference.sample(model, noise, n), nats=nats)


def gray_vae(seed: int, rng: Stream) -> Rival:
    model = trained("VAE of gray levels", VAE(digits.image_shape, rng, latent=50, likelihood="beta_binomial"), train, budget, None, seed)
    nats = -inference.bound(model, against, rng.split("importance samples"), SAMPLES).mean()
    return Rival(lambda noise, n: inference.sample(model, noise, n), bits=nats * per_dimension)


def vaegan(seed: int, rng: Stream) -> Rival:
    model = trained("VAE-GAN", VAE(digits.image_shape, rng), train, budget, VaeGan(), seed, batch_size=64)
    return Rival(lambda noise, n: inference.sample(model, noise, n))


def gan(seed: int, rng: Stream) -> Rival:
    model = trained("GAN", GAN(digits.image_shape, rng, latent=32, hidden=(256, 128)), train, budget, Gan(), seed, batch_size=64)
    return Rival(lambda noise, n: inference.sample(model, noise, n))


def latent_diffusion(seed: int, rng: Stream) -> Rival:
    """Half of the time for a VAE, half for a diffusion of its codes, which takes the place of the prior.

    -log p(x) <= E_q[-log p(x | z) + log q(z | x) + the diffusion's bound on -log p(z)]"""
    model = trained("VAE for its codes", VAE(digits.image_shape, rng), train, budget / 2, None, seed)
    with mv.no_grad():
        codes = model.encode(to_float(train)).sample(rng.split("codes")).numpy()
    prior = Diffusion((model.latent,), rng.split("prior"), low=-6.0)  # codes have no finer detail than q's own noise
    trained("diffusion of codes", prior, codes, budget / 2, NoisePrediction("noise"), seed)
    with mv.no_grad():
        x = binarize(to_float(against), Stream(asked.seed).split("bits"))
        q = model.encode(x)
        z = q.sample(rng.split("codes of the bound"))
        outside = (q.log_prob(z) - model.decode(z).log_prob(x)).numpy()
        normal = -model.prior.log_prob(z).numpy().mean()
    inside = layer_costs(prior, z.numpy(), rng.split("layers"), draws=20).bound.mean()
    nats = outside.mean() + inside
    print(
        f"  codes cost {inside:.1f} nats by the diffusion's bound, {normal:.1f} by N(0, I): in all {nats:.1f}, {nats - inside + normal:.1f}"
    )
    return Rival(lambda noise, n: inference.decode_mean(model, inference.sample(prior, noise, n)), nats=nats)


def diffusion(seed: int, rng: Stream) -> Rival:
    """By its bound; the samples by DDIM, whose steps are few."""
    model = Diffusion(digits.image_shape, rng, arch="unet", channels=channels, frequencies=level_frequencies(train))
    trained("diffusion of pixels", model, train, budget, NoisePrediction(ema=0.99), seed, batch_size=32, lr=3e-3)
    nats = layer_costs(model, against, rng.split("layers"), draws=2).bound.mean()
    chain, like = Chain(model, steps, 0.0), np.zeros(1, np.float32)
    return Rival(lambda noise, n: inference.decode_mean(model, chain.sample(noise, n, like)), bits=nats * per_dimension)


RIVALS = {
    "VAE": vae,
    "VAE, learned prior": learned_prior,
    "VAE of gray levels": gray_vae,
    "VAE-GAN": vaegan,
    "GAN": gan,
    "diffusion, codes": latent_diffusion,
    "diffusion, pixels": diffusion,
}
COLUMNS = {"sharpness": 3, "precision": 3, "recall": 3, "density": 3, "coverage": 3, "Frechet": 1, "classes": 3, "nats": 1, "bits": 3}


def judged(images: np.ndarray, nats: float = math.nan, bits: float = math.nan) -> list[float]:
    """A row of the table."""
    seen = inference.features(eyes, images)
    _, uneven = mode_count(inference.classify(eyes, images)[:, None])
    return [sharpness(images), *likeness(seen, reference), frechet_distance(seen, reference), uneven, nats, bits]


def line(name: str, values: np.ndarray) -> str:
    """Of (trainings, columns): the means, and behind them the least and the most."""
    cells = []
    for column, n in zip(values.T, COLUMNS.values(), strict=True):
        ends = f" ({column.min():.{n}f}-{column.max():.{n}f})" if len(values) > 1 else ""
        cells.append("-" if math.isnan(column[0]) else f"{column.mean():.{n}f}{ends}")
    return f"{name:20s}" + "".join(f"{cell:>22s}" for cell in cells)


held_out = np.array([judged(to_float(held))])
header = f"{'':20s}" + "".join(f"{column:>22s}" for column in COLUMNS)
table = {name: np.zeros((seeds, len(COLUMNS))) for name in RIVALS}
shown: dict[str, np.ndarray] = {}
for s in range(seeds):
    print(f"seed {asked.seed + s}\n{header}")
    for name, train_rival in RIVALS.items():
        rival = train_rival(asked.seed + s, Stream(asked.seed + s).split(name))
        made = np.clip(rival.sample(Stream(asked.seed + s).split("samples"), count), 0, 1)
        table[name][s] = judged(made, rival.nats, rival.bits)
        print(line(name, table[name][s : s + 1]), flush=True)
        shown.setdefault(name, made)

# %%
# The table: the mean over the trainings, and behind it the least and the most.  Sharpness is the variance of the Laplacian; precision,
# recall, density and coverage have 5 neighbours; the Frechet distance is of features; classes is the KL of the frequencies of the ten
# digits from equal ones, in nats; nats and bits are the bounds on -log p, of black and white images and of gray ones.

print(f"\n{count} images a row, {budget:g} s of processor time a training, {seeds} trainings a model, {len(train)} images to train")
print("\n".join([header, line("real, held out", held_out), *[line(name, values) for name, values in table.items()]]))
mean = {name: dict(zip(COLUMNS, values.mean(axis=0), strict=True)) for name, values in table.items()}
real = dict(zip(COLUMNS, held_out[0], strict=True))


def order(column: str, *names: str) -> str:
    return ", ".join(f"{name} {mean[name][column]:.{COLUMNS[column]}f}" for name in names)


stage.claim(
    f"a VAE's images are less sharp than real ones: {mean['VAE']['sharpness']:.3f}, and {real['sharpness']:.3f}",
    mean["VAE"]["sharpness"] < 0.8 * real["sharpness"],
)
stage.claim("a GAN's are sharper: " + order("sharpness", "GAN", "VAE"), mean["GAN"]["sharpness"] > mean["VAE"]["sharpness"])
if not asked.tiny:
    stage.claim(
        "codes drawn from N(0, I) fall into holes, and from a prior that was learned they do not: with one a VAE covers more real images, "
        + order("coverage", "VAE", "VAE, learned prior", "diffusion, codes"),
        mean["VAE"]["coverage"] < min(mean["VAE, learned prior"]["coverage"], mean["diffusion, codes"]["coverage"]),
    )
if asked.full:
    stage.claim(
        "a VAE-GAN's images are between the two in sharpness: " + order("sharpness", "GAN", "VAE-GAN", "VAE"),
        mean["GAN"]["sharpness"] > mean["VAE-GAN"]["sharpness"] > mean["VAE"]["sharpness"],
    )
    stage.claim(
        "a VAE with a learned prior covers more than a GAN: " + order("coverage", "VAE, learned prior", "GAN"),
        mean["VAE, learned prior"]["coverage"] > mean["GAN"]["coverage"],
    )
stage.claim(
    "no rival is as good as real images: each is farther in Frechet distance than they are, "
    + ", ".join(f"{name} {row['Frechet']:.1f}" for name, row in mean.items())
    + f", real {real['Frechet']:.1f}",
    all(row["Frechet"] > real["Frechet"] for row in mean.values()),
)

# %%
# Look at them: eight samples of each, above the training images that are nearest to them, pixel by pixel.

flat, nearest = rows("rivals", to_float(train)), {}
for name, images in shown.items():
    at = np.concatenate([part.argmin(axis=1) for part in distances(rows("rivals", images[:8]), flat)])
    nearest[name] = to_float(train[at])
names = [line for name in shown for line in (name, "nearest")]
pictures = np.stack([row for name in shown for row in (shown[name][:8], nearest[name])])
stage.save(plots.groups({"samples, and the nearest training images": pictures}, "Rivals", names), asked.out / "rivals_samples.png")

figure = Figure(figsize=(9, 3), layout="constrained", facecolor="white")
for ax, column in zip(figure.subplots(1, 3), ("sharpness", "coverage", "Frechet"), strict=True):
    k = list(COLUMNS).index(column)
    for i, values in enumerate(table.values()):
        ax.barh(i, values[:, k].mean(), color=PARTS[0], height=0.6)
        ax.plot(values[:, k], np.full(seeds, i), "o", color=INK, markersize=3)
    ax.axvline(real[column], color=INK, linewidth=0.9, linestyle=":")
    ax.set_yticks(range(len(table)), list(table) if ax is figure.axes[0] else [""] * len(table), fontsize=SMALL)
    ax.invert_yaxis()
    calm(ax).set_title(f"{column}; dotted: real", fontsize=TITLE, color=INK)
stage.save(figure, asked.out / "rivals_judged.png")
