"""Reconstruction only, regularizer only, and both: what each part of the loss does to the codes.

    python demos/three_losses.py --out figures

Lecture 4's figure, with two latents: the means of q(z | x) as a map, and a histogram of its standard deviations, under each loss.  Writes
three_losses.png; claims that do not hold end the program with a sentence.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from minivae import VAE, Adam, Stream, constant, gradients, no_graph, plots
from minivae.data import batches, load, to_float
from minivae.objectives import elbo, regularizer

LOSSES = {"reconstruction only": partial(elbo, beta=0.0), "regularizer only": regularizer, "both: the ELBO": elbo}


def train(model: VAE, images: np.ndarray, objective, steps: int, rng: Stream) -> None:
    params, noise, order = model.parameters(), rng.split("noise"), rng.split("order")
    optimizer = Adam(params, 2e-3)
    while optimizer.steps < steps:
        for x in batches(images, 100, order, drop_last=True):
            optimizer.step(gradients(objective(model, x, noise).loss, params))


def teach_decoder(model: VAE, images: np.ndarray, steps: int, rng: Stream) -> None:
    """The encoder stays as it is: its codes come as constants, and only the decoder's weights move."""
    params, noise, order = model.decoder.parameters(), rng.split("noise"), rng.split("order")
    optimizer = Adam(params, 2e-3)
    while optimizer.steps < steps:
        for x in batches(images, 100, order, drop_last=True):
            z = constant(model.encode(x).sample(noise))
            optimizer.step(gradients(-model.decode(z).log_prob(x).mean(), params))


def codes(model: VAE, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations.     -> (N, 2) both"""
    with no_graph():
        q = model.encode(to_float(images))
        return q.mean.data, q.sigma.data


def claim(text: str, holds: bool) -> None:
    print(f"{'holds' if holds else 'FAILS'}: {text}")
    if not holds:
        raise SystemExit(f"the claim does not hold: {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--tiny", action="store_true", help="seconds: fewer steps")
    size.add_argument("--full", action="store_true", help="all of MNIST")
    parser.add_argument("--out", type=Path, default=Path("."), help="the folder for the figures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, help="the folder with MNIST, for --full")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = load("mnist", options.data_dir) if options.full else load("digits5k")
    steps = 3000 if options.tiny else 20_000 if options.full else 6000

    shown = data.test_images[:5000]
    panels = {}
    for name, objective in LOSSES.items():
        root = Stream(options.seed).split(name)
        model = VAE(data.image_shape, root, latent=2, hidden=(200,))
        train(model, data.train_images, objective, steps, root)
        panels[name] = mean, sigma = codes(model, shown)
        middle, spread = np.median(sigma), np.sqrt((mean**2).mean())
        print(f"{name}: median sigma {middle:.3f}, root mean square of the means {spread:.2f}")
        if name == "reconstruction only":
            claim("it behaves as an autoencoder: sigma is below 2% of the spread of the means", middle < 0.02 * spread)
            claim("and the means leave the prior: they spread over more than 3 of its sigmas", spread > 3)
        elif name == "regularizer only":
            claim("every mean is within 0.1 of 0, every sigma within 0.1 of 1", max(abs(mean).max(), abs(sigma - 1).max()) < 0.1)
            teach_decoder(model, data.train_images, steps // 2, root)
            drawn = model.images(Stream(options.seed).normal((100, 2)))
            away = abs(drawn - to_float(data.train_images).mean(axis=0)).mean()
            claim(f"a decoder taught on such codes draws the mean image: {away:.3f} away from it a pixel", away < 0.02)
        else:
            total = (mean**2 + sigma**2).mean(axis=0)
            claim(
                f"together the posteriors cover the prior: second moments {total.round(2)}, between a half and 2",
                bool(((total > 0.5) & (total < 2)).all()),
            )
            claim("while each is narrow: the median sigma is below a half", middle < 0.5)
    plots.codes(panels, data.test_labels[:5000], data.label_names).savefig(options.out / "three_losses.png", dpi=150)


if __name__ == "__main__":
    main()
