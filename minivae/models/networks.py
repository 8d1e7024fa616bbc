"""What stands between an image and its code: the encoder, and the decoder as its mirror image, in three kinds.

An encoder is layers that make an image one row of features, then layers for that row: a condition, if there is one, joins the features
there.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import ops
from ..engine import Tensor
from ..errors import ShapeError, UsageError
from ..nn import GRU, LSTM, Conv2d, ConvTranspose2d, Dense, Flatten, Module, Reshape, Sequential
from ..random import Stream

CELLS: dict[str, Any] = {"gru": GRU, "lstm": LSTM}
ARCHITECTURES = ("dense", "conv", *CELLS)


class Networks(NamedTuple):
    encoder: Sequential
    decoder: Sequential
    join: int  # the index of the encoder's first layer behind the features
    hidden: tuple[int, ...]
    channels: tuple[int, ...]


class Rows(Module):
    """An image as the sequence of its rows.     (N, H, W, C) -> (N, H, W C)"""

    def forward(self, x: Any) -> Any:
        n, height, width, channels = x.shape
        return x.reshape(n, height, width * channels)


class LastState(Module):
    """What a recurrent layer knows after the whole sequence.     (N, T, F) -> (N, F)"""

    def forward(self, h: Any) -> Any:
        return h[:, -1]


class Repeat(Module):
    """The same input at every step: what changes along the sequence is the state's doing.     (N, F) -> (N, steps, F)"""

    def __init__(self, steps: int):
        self.steps = steps

    def forward(self, x: Any) -> Tensor:
        n, features = x.shape
        return ops.broadcast_to(x.reshape(n, 1, features), (n, self.steps, features))


def networks(
    image_shape: tuple[int, ...],
    rng: Stream,
    arch: str,
    hidden: Sequence[int] | None,
    channels: Sequence[int] | None,
    activation: str,
    outputs: int,
    inputs: int,
    condition: int = 0,
    numbers: int = 1,
) -> Networks:
    """An encoder that ends in `outputs` numbers an image and a decoder that starts from `inputs`; `condition` numbers more go into each.

    numbers    of each pixel that the decoder ends in: (H, W, numbers C)"""
    if channels and arch != "conv":
        raise UsageError(f"channels is {tuple(channels)}, and {arch} networks have none; leave it out, or choose arch='conv'")
    hidden = (400,) if hidden is None and arch == "dense" else (256,) if hidden is None else tuple(hidden)
    if min(hidden, default=1) < 1 or (arch in CELLS and not hidden):
        raise UsageError(f"hidden is {hidden}; need at least 1 unit a layer, and for {', '.join(CELLS)} a layer")
    if arch in CELLS:
        return recurrent(image_shape, rng, arch, hidden, activation, outputs, inputs, condition, numbers)
    encoder: list[Module] = []
    decoder: list[Module] = []  # from the image back to z; reversed at the end
    if arch == "dense":
        widths: tuple[int, ...] = ()
        encoder.append(Flatten())
        decoder.append(Reshape(*image_shape[:-1], numbers * image_shape[-1]))
        width = math.prod(image_shape)
    else:
        sizes = halvings(image_shape[:2], None if channels is None else len(channels))
        widths = tuple(channels) if channels is not None else (32, *[64] * (len(sizes) - 2))
        depths = (image_shape[2], *widths)
        for i in range(len(widths)):
            encoder.append(Conv2d(depths[i], depths[i + 1], rng, kernel=4, stride=2, padding=1, activation=activation))
            outer = activation if i else None
            ends = depths[i] if i else numbers * depths[0]
            decoder.append(ConvTranspose2d(depths[i + 1], ends, rng, kernel=4, stride=2, padding=1, size=sizes[i], activation=outer))
        encoder.append(Flatten())
        decoder.append(Reshape(*sizes[-1], depths[-1]))
        width = math.prod(sizes[-1]) * depths[-1]
    join = len(encoder)
    more, wide = condition, width * numbers if arch == "dense" else width  # what the decoder makes of the first layer's units
    for i, units in enumerate(hidden):
        encoder.append(Dense(width + more, units, rng, activation))
        decoder.append(Dense(units, wide, rng, activation if i or arch == "conv" else None))
        width, wide, more = units, units, 0
    encoder.append(Dense(width + more, outputs, rng))
    decoder.append(Dense(inputs + condition, wide, rng, activation if hidden or arch == "conv" else None))
    return Networks(Sequential(*encoder), Sequential(*reversed(decoder)), join, hidden, widths)


def recurrent(
    image_shape: tuple[int, ...],
    rng: Stream,
    arch: str,
    hidden: tuple[int, ...],
    activation: str,
    outputs: int,
    inputs: int,
    condition: int,
    numbers: int = 1,
) -> Networks:
    """Rows in, one recurrent layer behind the other, and the last state is the row of features; rows out, from a code that every step sees.

    No step of the decoder sees the rows before it but through its state: all that it knows of an image comes from the code.
    """
    height, width, depth = image_shape
    cell = CELLS[arch]
    encoder: list[Module] = [Rows()]
    decoder: list[Module] = [Reshape(height, width, numbers * depth), Dense(hidden[0], width * depth * numbers, rng)]
    before = width * depth
    for i, units in enumerate(hidden):
        encoder.append(cell(before, units, rng))
        decoder.append(cell(hidden[min(i + 1, len(hidden) - 1)], units, rng))
        before = units
    encoder += [LastState(), Dense(before + condition, outputs, rng)]
    decoder += [Repeat(height), Dense(inputs + condition, before, rng, activation)]
    return Networks(Sequential(*encoder), Sequential(*reversed(decoder)), len(encoder) - 1, hidden, ())


def halvings(size: Sequence[int], stages: int | None) -> list[tuple[int, int]]:
    """Image sizes under 4x4 convolutions of stride 2 and padding 1, n -> n // 2; by default until the smaller side is 4 to 7."""
    sizes = [(int(size[0]), int(size[1]))]
    while (len(sizes) - 1 < stages) if stages is not None else (min(sizes[-1]) >= 8 or len(sizes) == 1):
        if min(sizes[-1]) < 2:
            wanted = "a convolution" if stages is None else f"{stages} convolutions"
            raise ShapeError(f"VAE: an image of {size[0]}x{size[1]} cannot be halved by {wanted}; use fewer channels or arch='dense'")
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def in_rows(z: Any) -> Any:
    """(..., K) -> (N, K), as networks take codes."""
    return z if z.ndim == 2 else ops.reshape(z, (math.prod(z.shape[:-1]), z.shape[-1]))


def as_they_were(h: Any, lead: Sequence[int]) -> Any:
    """What a network makes of `in_rows`, with the axes that the codes had.     (N, ...) -> (*lead, ...)"""
    return h if len(lead) == 1 else ops.reshape(h, (*lead, *h.shape[1:]))


def arguments_of(model: Any, *names: str) -> dict[str, Any]:
    """A model's attributes of these names, for its config: tuples as lists, as JSON has them."""
    values = {name: getattr(model, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def mlp(widths: Sequence[int], rng: Stream, activation: str) -> Sequential:
    """Dense layers between these widths, an activation after each but the last.     (..., widths[0]) -> (..., widths[-1])"""
    last = len(widths) - 2
    return Sequential(*[Dense(widths[i], widths[i + 1], rng, activation if i < last else None) for i in range(last + 1)])


def critic(latent: int, rng: Stream, hidden: Sequence[int] = (1000,) * 5) -> Sequential:
    """FactorVAE's discriminator: the logit that z came from q(z) and not from the product of its marginals.     (N, K) -> (N, 1)

    H. Kim and A. Mnih, "Disentangling by factorising", 2018, appendix A: five hidden layers of 1,000 units, leaky relu.
    """
    return mlp((latent, *hidden, 1), rng, "leaky_relu")
