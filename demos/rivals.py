"""VAE, VAE-GAN, GAN and diffusion in one table, beside real images
===================================================================

The lectures end with a comparison: VAEs are sound and blurry, GANs are sharp and unstable, diffusion is both good and slow. Here all of
them are trained on the same digits, for the same seconds of the same processor, and judged by the same judges. Beside them stand real
images that were held back: a judge's number means something only next to theirs.  ``python demos/rivals.py --out figures``

The judges look at features of a classifier that is trained first, on the same digits with their labels. ``docs/rivals.md`` takes the
lecture's comparison sentence by sentence.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import stage
from matplotlib.figure import Figure
from tqdm import tqdm

import minivae as mv
from minivae import VAE, Stream, inference, plots
from minivae.data import to_float
from minivae.evaluate import frechet_distance, likeness, mode_count, sharpness
from minivae.evaluate.neighbours import distances, rows
from minivae.models import GAN, Classifier, Diffusion
from minivae.objectives import CrossEntropy, Gan, NoisePrediction, VaeGan
from minivae.plots.bars import PARTS
from minivae.plots.layout import INK, SMALL, TITLE, calm
from minivae.training import Trainer, TrainingConfig

asked = stage.options(__doc__)
digits = stage.digits(asked)
budget, seeds = stage.pick(asked, 3.0, 20.0, 200.0), stage.pick(asked, 1, 3, 3)  # seconds of the processor for each model, and trainings
train, test = digits.train_images, digits.test_images
count = min(len(test), stage.pick(asked, 300, 500, 2000))  # images in every set that is judged
shuffled = Stream(asked.seed).split("test images").permutation(len(test))  # MNIST's first 5,000 are other writers' than its last
against = test[shuffled[:count]]
held = test[shuffled[count : 2 * count]] if len(test) >= 2 * count else train[:count]  # real images that no others are compared with

# %%
# The judge's eyes: a convolutional classifier, and the 64 numbers behind its last relu.

eyes = Classifier(digits.image_shape, Stream(asked.seed).split("weights of the classifier"))
stage.train(eyes, train, stage.pick(asked, 2, 6, 3), digits.train_labels, CrossEntropy(), "classifier", lr=2e-3, batch_size=64)
error = (inference.classify(eyes, test) != digits.test_labels).mean()
print(f"the classifier is wrong about {error:.1%} of {len(test)} test images")
reference = inference.features(eyes, against)


# %%
# The rivals.  Each trains until its seconds are used up; an epoch that has begun is ended.


def trained(name: str, model: Any, images: np.ndarray, seconds: float, objective: Any, seed: int, **settings: Any) -> Any:
    """The model, in evaluation mode, after so many seconds of the processor."""
    batch = settings.get("batch_size", 128)
    Trainer(deepcopy(model), TrainingConfig(seed=seed, **settings), objective).epoch(images[: 2 * batch])  # compiles what is to be timed
    trainer = Trainer(model, TrainingConfig(seed=seed, **settings), objective)
    start = time.process_time()
    with tqdm(total=seconds, desc=name, unit="s", leave=False, delay=2) as bar:
        while (spent := time.process_time() - start) < seconds:
            trainer.epoch(images)
            bar.update(min(time.process_time() - start, seconds) - spent)
    model.train(False)
    print(f"  {name}: {trainer.epochs_done} epochs, {spent:.0f} s")
    return model


def vae(seed: int, rng: Stream) -> Callable[[Stream], np.ndarray]:
    model = trained("VAE", VAE(digits.image_shape, rng), train, budget, None, seed)
    return lambda noise: inference.sample(model, noise, count)


def vaegan(seed: int, rng: Stream) -> Callable[[Stream], np.ndarray]:
    model = trained("VAE-GAN", VAE(digits.image_shape, rng), train, budget, VaeGan(), seed, batch_size=64)
    return lambda noise: inference.sample(model, noise, count)


def gan(seed: int, rng: Stream) -> Callable[[Stream], np.ndarray]:
    model = trained("GAN", GAN(digits.image_shape, rng, latent=32, hidden=(256, 128)), train, budget, Gan(), seed, batch_size=64)
    return lambda noise: inference.sample(model, noise, count)


def latent_diffusion(seed: int, rng: Stream) -> Callable[[Stream], np.ndarray]:
    """Half of the time for a VAE, half for a diffusion of its codes, which takes the place of the prior."""
    model = trained("VAE for its codes", VAE(digits.image_shape, rng), train, budget / 2, None, seed)
    with mv.no_grad():
        codes = model.encode(to_float(train)).sample(rng.split("codes")).numpy()
    prior = trained("diffusion of codes", Diffusion((model.latent,), rng.split("prior")), codes, budget / 2, NoisePrediction("noise"), seed)
    return lambda noise: inference.decode_mean(model, inference.sample(prior, noise, count))


def diffusion(seed: int, rng: Stream) -> Callable[[Stream], np.ndarray]:
    model = Diffusion(digits.image_shape, rng, hidden=(512, 512, 512), steps=50)
    trained("diffusion of pixels", model, train, budget, NoisePrediction("noise"), seed, batch_size=64)
    return lambda noise: inference.sample(model, noise, count)


RIVALS = {"VAE": vae, "VAE-GAN": vaegan, "GAN": gan, "diffusion, codes": latent_diffusion, "diffusion, pixels": diffusion}
COLUMNS = ("sharpness", "precision", "recall", "density", "coverage", "Frechet", "classes")


def judged(images: np.ndarray) -> np.ndarray:
    """A row of the table."""
    seen = inference.features(eyes, images)
    _, uneven = mode_count(inference.classify(eyes, images)[:, None])
    return np.array([sharpness(images), *likeness(seen, reference), frechet_distance(seen, reference), uneven])


held_out = judged(to_float(held))
table = {name: np.zeros((seeds, len(COLUMNS))) for name in RIVALS}
shown: dict[str, np.ndarray] = {}
for s in range(seeds):
    print(f"seed {asked.seed + s}")
    for name, rival in RIVALS.items():
        made = rival(asked.seed + s, Stream(asked.seed + s).split(name))(Stream(asked.seed + s).split("samples"))
        table[name][s] = judged(np.clip(made, 0, 1))
        shown.setdefault(name, np.clip(made, 0, 1))

# %%
# The table: the mean over the trainings, and behind it the least and the most.  Sharpness is the variance of the Laplacian; precision,
# recall, density and coverage have 5 neighbours; the Frechet distance is of features; classes is the KL of the frequencies of the ten
# digits from equal ones, in nats.

print(f"\n{count} images a row, {budget:g} s of the processor a training, {seeds} trainings a model")
print(f"{'':18s}" + "".join(f"{column:>26s}" for column in COLUMNS))
print(f"{'real, held out':18s}" + "".join(f"{value:26.3f}" for value in held_out))
for name, values in table.items():
    cells = zip(values.mean(axis=0), values.min(axis=0), values.max(axis=0), strict=True)
    print(f"{name:18s}" + "".join(f"{f'{mean:.3f} ({low:.3f}-{high:.3f})':>26s}" for mean, low, high in cells))
mean = {name: dict(zip(COLUMNS, values.mean(axis=0), strict=True)) for name, values in table.items()}
real = dict(zip(COLUMNS, held_out, strict=True))
stage.claim(
    f"a VAE's images are less sharp than real ones: {mean['VAE']['sharpness']:.3f}, and {real['sharpness']:.3f}",
    mean["VAE"]["sharpness"] < 0.8 * real["sharpness"],
)
stage.claim(f"a GAN's are sharper than a VAE's: {mean['GAN']['sharpness']:.3f}", mean["GAN"]["sharpness"] > mean["VAE"]["sharpness"])
stage.claim(
    "a VAE's own codes, drawn by a diffusion in the place of N(0, I), cover more real images in the same time: "
    f"{mean['diffusion, codes']['coverage']:.2f}, and {mean['VAE']['coverage']:.2f} without",
    mean["diffusion, codes"]["coverage"] > stage.pick(asked, 0.5, 1.0, 1.0) * mean["VAE"]["coverage"],
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
    for i, (values, colour) in enumerate(zip(table.values(), PARTS, strict=False)):
        k = COLUMNS.index(column)
        ax.barh(i, values[:, k].mean(), color=colour, height=0.6)
        ax.plot(values[:, k], np.full(seeds, i), "o", color=INK, markersize=3)
    ax.axvline(real[column], color=INK, linewidth=0.9, linestyle=":")
    ax.set_yticks(range(len(table)), list(table) if ax is figure.axes[0] else [""] * len(table), fontsize=SMALL)
    ax.invert_yaxis()
    calm(ax).set_title(f"{column}; dotted: real", fontsize=TITLE, color=INK)
stage.save(figure, asked.out / "rivals_judged.png")
