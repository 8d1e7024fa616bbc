"""minivae as a contestant: factory(workload, init, x) -> (step, loss), on the ordinary library path."""

import itertools
import math
from typing import Any

import numpy as np

import minivae as mv
import minivae.kernels.cpu.conv  # with numba, which is loaded at the first kernel, and counts among the imports here
from minivae.cli.bench import WORKLOADS, Workload, objective, training_step, vae


class Given:
    """A stream that yields noise given beforehand: to compare the first loss of all contestants."""

    def __init__(self, noise: np.ndarray):
        self.noise = noise

    def normal(self, shape: tuple[int, ...], like: Any = None) -> np.ndarray:
        return self.noise.reshape(shape)


class AnyKernel(mv.VAE):
    """A VAE whose convolutions have any kernel and stride: encode and decode are the library's, on other layers."""

    def __init__(self, w: Workload, rng: mv.Stream):
        super().__init__(w.image, rng, w.latent, hidden=w.hidden, activation=w.activation)
        channels = (w.image[2], *(conv[0] for conv in w.convs))
        encoder: list[Any] = []
        decoder: list[Any] = []  # from the image back to z
        for i, (inner, kernel, stride) in enumerate(w.convs):
            geometry: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": (kernel - 1) // 2}
            encoder.append(mv.nn.Conv2d(channels[i], inner, rng, **geometry, activation=w.activation))
            outer = w.activation if i else None
            decoder.append(mv.nn.ConvTranspose2d(inner, channels[i], rng, **geometry, size=w.sizes[i], activation=outer))
        widths = (math.prod(w.sizes[-1]) * channels[-1], *w.hidden)
        pairs = list(itertools.pairwise(widths))
        encoder += [mv.nn.Flatten(), *(mv.nn.Dense(a, b, rng, w.activation) for a, b in pairs), mv.nn.Dense(widths[-1], 2 * w.latent, rng)]
        decoder += [mv.nn.Reshape(*w.sizes[-1], channels[-1]), *(mv.nn.Dense(b, a, rng, w.activation) for a, b in pairs)]
        decoder.append(mv.nn.Dense(w.latent, widths[-1], rng, w.activation))
        self.encoder, self.decoder = mv.nn.Sequential(*encoder), mv.nn.Sequential(*reversed(decoder))


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


def factory(workload: str | Workload, init: dict[str, np.ndarray], x: np.ndarray) -> tuple[Any, Any]:
    """`loss(eps)` is the loss at the initial parameters, whenever it is called."""
    w = WORKLOADS[workload] if isinstance(workload, str) else workload
    usual = all(conv[1:] == (4, 2) for conv in w.convs)
    model = vae(w, mv.Stream(0)) if usual else AnyKernel(w, mv.Stream(0))
    load(model, init)
    x = x.reshape(len(x), *w.image)
    step = training_step(w, model, x, mv.Stream(1))
    initial = model.state()

    def loss(eps: np.ndarray) -> float:
        now = model.state()
        model.load_state(initial)
        value = objective(w, model, x, Given(eps)).item()
        model.load_state(now)
        return value

    return step, loss
