"""minivae as a contestant: factory(workload, init, x) -> (step, loss), on the ordinary library path.

A step is what a user writes: encode, sample (fresh noise every time), decode, the objective, gradients, the optimizer's step.
"""

from pathlib import Path
from typing import Any

import numpy as np

import minivae as mv
from minivae.objectives import elbo, iwae

# workload -> the VAE that it trains, and its number of importance samples (0: the ELBO)
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "mlp": ({"image_shape": (28, 28, 1), "hidden": (400,), "latent": 20}, 0),
    "iwae1": ({"image_shape": (28, 28, 1), "hidden": (200, 200), "latent": 50, "activation": "tanh"}, 1),
    "iwae50": ({"image_shape": (28, 28, 1), "hidden": (200, 200), "latent": 50, "activation": "tanh"}, 50),
    "conv": ({"image_shape": (28, 28, 1), "arch": "conv", "channels": (32, 64), "hidden": (256,), "latent": 20}, 0),
    "burgess": ({"image_shape": (64, 64, 1), "arch": "conv", "channels": (32,) * 4, "hidden": (256, 256), "latent": 10}, 0),
    "tiny": ({"image_shape": (8, 8, 1), "hidden": (32,), "latent": 2}, 0),
}


class Given:
    """A stream that yields noise given beforehand: to compare the first loss of all contestants."""

    def __init__(self, noise: np.ndarray):
        self.noise = noise

    def normal(self, shape: tuple[int, ...], like: Any = None) -> np.ndarray:
        return self.noise.reshape(shape)


def load(model: mv.VAE, init: dict[str, np.ndarray]) -> None:
    """Copy the common initial parameters in: our head is one matrix, and a transposed convolution has its adjoint's layout."""

    def layer(name: str) -> tuple[np.ndarray, np.ndarray]:
        w, b = init[f"{name}.W"], init[f"{name}.b"]
        return (w.transpose(0, 1, 3, 2) if name.startswith("dc") else w), b

    names = [key[:-2] for key in init if key.endswith(".W")]
    head = tuple(np.concatenate(pair, axis=-1) for pair in zip(layer("mu"), layer("lv"), strict=True))
    arrays = [a for name in names if name[0] == "e" for a in layer(name)] + list(head)
    arrays += [a for name in names if name[0] == "d" for a in layer(name)]
    for p, a in zip(model.parameters(), arrays, strict=True):
        p.data[...] = a


def factory(workload: str, init: dict[str, np.ndarray], x: np.ndarray) -> tuple[Any, Any]:
    options, samples = MODELS[workload]
    model = mv.VAE(rng=mv.Stream(0), **options)
    load(model, init)
    x = x.reshape(len(x), *model.image_shape)
    params = model.parameters()
    optimizer = mv.Adam(params, lr=1e-4)
    noise = mv.Stream(1)

    def objective(rng: Any) -> mv.Tensor:
        return iwae(model, x, rng, samples) if samples else elbo(model, x, rng).loss

    def step() -> mv.Tensor:
        loss = objective(noise)
        optimizer.step(mv.gradients(loss, params))
        return loss

    initial = [p.data.copy() for p in params]

    def loss_at_start(eps: np.ndarray) -> float:
        now = [p.data.copy() for p in params]
        for p, a in zip(params, initial, strict=True):
            p.data[...] = a
        value = objective(Given(eps)).item()
        for p, a in zip(params, now, strict=True):
            p.data[...] = a
        return value

    return step, loss_at_start


if __name__ == "__main__":
    print(Path(__file__).name, "is imported by compare.py")
