"""A conditional VAE draws the digit that is asked for, and keeps the style while the digit changes.

    python demos/digits_on_demand.py --out figures

A classifier that has only seen real digits judges the drawn ones.  Writes digits_on_demand.png and style.png; claims that do not hold end
the program with a sentence.
"""

import numpy as np
import stage

from minivae import Adam, Stream, gradients, no_graph, plots
from minivae.data import batch_indices, to_float
from minivae.distributions import Categorical
from minivae.models import CVAE
from minivae.nn import Dense, Flatten, Sequential


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


def main() -> None:
    options = stage.options(__doc__)
    data = stage.digits(options)
    epochs, steps = stage.pick(options, (30, 600), (40, 2000), (30, 20_000))

    rng = Stream(options.seed)
    net = classifier(data.train_images, data.train_labels, steps, rng.split("classifier"))
    real = agreement(net, to_float(data.test_images), data.test_labels)
    model = CVAE(data.image_shape, rng.split("weights"), condition=10, latent=5, hidden=(300,))
    terms = stage.train(model, data.train_images, epochs, data.train_labels, batch_size=50, lr=2e-3, seed=options.seed)[-1]
    print(f"-ELBO {terms['loss']:.1f} nats, of which the KL is {terms['kl']:.1f}")

    asked = np.arange(1000) % 10
    told = model.given(asked)
    drawn = told.images(told.draw(rng.split("prior"), len(asked)))
    agrees, least = agreement(net, drawn, asked), 0.85 if options.tiny else 0.95
    print(f"the classifier reads {real:.1%} of the real test digits")
    stage.claim(f"it agrees with {agrees:.1%} of the digits on demand, at least {least:.0%}", agrees >= least)
    stage.save(plots.samples(drawn[:100], "Digits on demand: each column was asked for its digit"), options.out / "digits_on_demand.png")

    images, labels = to_float(data.test_images[:200]), data.test_labels[:200]
    with no_graph():
        z = model.given(labels).encode(images).mean.data
    each = np.stack([model.given(np.array([digit])).images(z) for digit in range(10)], axis=1)  # (200, 10, H, W, C)
    same = agreement(net, each.reshape(-1, *data.image_shape), np.tile(np.arange(10), len(z)))
    stage.claim(f"with the style of a test image and another label, the classifier sees that label: {same:.1%}", same >= least - 0.05)
    ink = each.sum(axis=(2, 3, 4))
    alike = np.corrcoef(ink.T)[np.triu_indices(10, 1)].mean()
    stage.claim(f"the style goes along: a bold 3 makes a bold 8; ink correlates by {alike:.2f} between digits", alike > 0.5)
    rows = np.concatenate([images[:10, None], each[:10]], axis=1).reshape(-1, *data.image_shape)
    stage.save(plots.samples(rows, "First column: test images.  Then their style as each digit from 0 to 9"), options.out / "style.png")


if __name__ == "__main__":
    main()
