"""A conditional VAE draws the digit that is asked for, and keeps the style while the digit changes.

    python demos/digits_on_demand.py --out figures

A classifier that has only seen real digits judges the drawn ones.  Writes digits_on_demand.png and style.png; claims that do not hold end
the program with a sentence.
"""

import argparse
from pathlib import Path

import numpy as np

from minivae import Adam, Stream, gradients, no_graph, plots
from minivae.data import batch_indices, load, to_float
from minivae.distributions import Categorical
from minivae.models import CVAE
from minivae.nn import Dense, Flatten, Sequential
from minivae.training import Trainer, TrainingConfig


def classifier(images: np.ndarray, labels: np.ndarray, steps: int, rng: Stream) -> Sequential:
    """Logits of ten digits, by a layer of 300 units."""
    net = Sequential(Flatten(), Dense(images[0].size, 300, rng, "relu"), Dense(300, 10, rng))
    params, order = net.parameters(), rng.split("order")
    optimizer = Adam(params, 1e-3, weight_decay=1e-3)
    while optimizer.steps < steps:
        for at in batch_indices(len(images), 100, order, drop_last=True):
            loss = -Categorical(net(to_float(images[at]))).log_prob(labels[at]).mean()
            optimizer.step(gradients(loss, params))
    return net


def agreement(net: Sequential, images: np.ndarray, labels: np.ndarray) -> float:
    with no_graph():
        return float((net(images).data.argmax(axis=1) == labels).mean())


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
    epochs, steps = (30, 600) if options.tiny else (30, 20_000) if options.full else (40, 2000)

    rng = Stream(options.seed)
    net = classifier(data.train_images, data.train_labels, steps, rng.split("classifier"))
    real = agreement(net, to_float(data.test_images), data.test_labels)
    model = CVAE(data.image_shape, rng.split("weights"), condition=10, latent=5, hidden=(300,))
    trainer = Trainer(model, TrainingConfig(epochs=epochs, batch_size=50, lr=2e-3, seed=options.seed))
    for _ in range(epochs):
        terms = trainer.epoch(data.train_images, conditions=data.train_labels)
    print(f"-ELBO {terms['loss']:.1f} nats, of which the KL is {terms['kl']:.1f}")

    asked = np.arange(1000) % 10
    told = model.given(asked)
    drawn = told.images(told.draw(rng.split("prior"), len(asked)))
    agrees, least = agreement(net, drawn, asked), 0.85 if options.tiny else 0.95
    print(f"the classifier reads {real:.1%} of the real test digits")
    claim(f"it agrees with {agrees:.1%} of the digits on demand, at least {least:.0%}", agrees >= least)
    plots.samples(drawn[:100], "Digits on demand: each column was asked for its digit").savefig(
        options.out / "digits_on_demand.png", dpi=150
    )

    images, labels = to_float(data.test_images[:200]), data.test_labels[:200]
    with no_graph():
        z = model.given(labels).encode(images).mean.data
    each = np.stack([model.given(np.array([digit])).images(z) for digit in range(10)], axis=1)  # (200, 10, H, W, C)
    same = agreement(net, each.reshape(-1, *data.image_shape), np.tile(np.arange(10), len(z)))
    claim(f"with the style of a test image and another label, the classifier sees that label: {same:.1%}", same >= least - 0.05)
    ink = each.sum(axis=(2, 3, 4))
    alike = np.corrcoef(ink.T)[np.triu_indices(10, 1)].mean()
    claim(f"the style goes along: a bold 3 makes a bold 8; ink correlates by {alike:.2f} between digits", alike > 0.5)
    rows = np.concatenate([images[:10, None], each[:10]], axis=1).reshape(-1, *data.image_shape)
    plots.samples(rows, "First column: test images.  Then their style as each digit from 0 to 9").savefig(
        options.out / "style.png", dpi=150
    )


if __name__ == "__main__":
    main()
