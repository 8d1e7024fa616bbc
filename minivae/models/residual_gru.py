"""A progressive codec: convolutional GRUs code a picture in bits, then what is missing in more bits, and so on.

G. Toderici et al., "Full resolution image compression with recurrent neural networks", 2017, with additive reconstruction and a residual
that is scaled, here by one number of the whole picture.

    x^_0 = 1/2,   r_t = x - x^_(t-1),   s_t = 4 rms(r_t),   b_t = B(E_t(r_t / s_t)) in {-1, 1},   x^_t = x^_(t-1) + s_t D_t(b_t)

E and D are the same at each t, but for their states, and what they see is as large at the eighth iteration as at the first.  What was coded
by t iterations are the first bits of what t + 1 code: a file that is cut after any iteration is a file of a coarser picture.
"""

from typing import Any

import numpy as np

from .. import ops
from ..backend import xp
from ..engine import Tensor, constant_of, stop_gradient
from ..errors import ShapeError, UsageError
from ..nn import Conv2d, ConvGRU, Module
from ..random import Stream

STRIDE = 16  # pixels a side of what a place of bits stands for
GAIN = 4.0  # over the root mean square of what is missing: of pictures at first it is about 1/4, and the scale 1
LEAST = 1e-3  # of that root mean square: a quarter of a level
GRAY = 0.5  # before anything is known

States = tuple[Any, ...]  # of the encoder's or the decoder's units, None for zero


class ProgressiveCodec(Module):
    """A convolution and three units down, the binarizer, four units up with depth-to-space between them.     pixels in [0, 1]

    image_shape  (H, W, C): its channels count; sides may be any multiples of 16
    width        w, channels of the first convolution; the units have 4 w, 8 w, 8 w; 8 w, 8 w, 4 w, 2 w.  The paper's is 64
    bits         of each 16x16 pixels and iteration; the paper's are 32, 1/8 bit a pixel
    """

    def __init__(self, image_shape: Any, rng: Stream, width: int = 16, bits: int = 32):
        if len(image_shape) != 3 or image_shape[-1] < 1:
            raise ShapeError(f"ProgressiveCodec: image_shape is {tuple(image_shape)}; need (height, width, channels)")
        if width < 2 or width % 2 or bits < 1:
            raise UsageError(f"ProgressiveCodec: width is {width}, bits {bits}; need an even width, and at least 1 bit")
        self.image_shape, self.width, self.bits = tuple(map(int, image_shape)), int(width), int(bits)
        channels, w = self.image_shape[2], self.width
        self.first = Conv2d(channels, w, rng.split("first"), 3, 2, 1)
        self.down = [ConvGRU(i, o, rng.split(f"down {i} {o}"), stride=2) for i, o in ((w, 4 * w), (4 * w, 8 * w), (8 * w, 8 * w))]
        self.to_bits = Conv2d(8 * w, self.bits, rng.split("to bits"), 1)
        self.from_bits = Conv2d(self.bits, 8 * w, rng.split("from bits"), 1)
        sizes = ((8 * w, 8 * w, 1), (2 * w, 8 * w, 1), (2 * w, 4 * w, 3), (w, 2 * w, 3))  # inputs, units, the state's kernel
        self.up = [ConvGRU(i, o, rng.split(f"up {k}"), hidden_kernel=size) for k, (i, o, size) in enumerate(sizes)]
        self.last = Conv2d(w // 2, channels, rng.split("last"), 1)
        for layer, gain in ((self.first, 1), (self.to_bits, 3), (self.from_bits, 3), (self.last, 1)):
            layer.w.data *= np.float32(gain)  # bits that are drawn of a small tanh are noise, and noise teaches little
            layer.b.data[...] = 0  # what all pictures have in common would be learned as bits that never change

    def config(self) -> dict[str, Any]:
        """The arguments that build this architecture again."""
        return {"image_shape": list(self.image_shape), "width": self.width, "bits": self.bits}

    def encode_step(self, missing: Any, states: States) -> tuple[Tensor, States]:
        """tanh, what each bit is worth before it is made one.     (N, H, W, C) -> (N, H / 16, W / 16, bits) in (-1, 1), states

        The caller has divided what is missing by its scale."""
        x, after = self.first(ops.multiply(missing, GAIN)), []
        for unit, state in zip(self.down, states, strict=True):
            x, state = unit(x, state)
            after.append(state)
        return ops.tanh(self.to_bits(x)), tuple(after)

    def binarize(self, t: Tensor, rng: Stream | None = None) -> Tensor:
        """1 with the probability (1 + t) / 2 and else -1 while training, whose mean is t; the sign of t afterwards, of 0 it is 1.

        The gradient goes straight through to t, as if b were its mean.  T. Raiko et al., "Techniques for learning binary stochastic
        feedforward neural networks", 2015; G. Toderici et al., "Variable rate image compression with recurrent neural networks", 2016."""
        if self.training:
            if rng is None:
                raise UsageError("binarize: in training bits are drawn; pass a Stream, or model.train(False)")
            u: Any = rng.uniform(t.shape, like=t.data)
            b = constant_of(drawn_signs, t.data, u)
        else:
            b = constant_of(signs, t.data)
        return ops.add(t, stop_gradient(ops.subtract(b, t)))

    def decode_step(self, bits: Any, states: States) -> tuple[Tensor, States]:
        """(N, h, w, bits) -> the change of the picture, over the scale (N, 16 h, 16 w, C), states"""
        x, after = ops.tanh(self.from_bits(bits)), []
        for unit, state in zip(self.up, states, strict=True):
            x, state = unit(x, state)
            x = ops.depth_to_space(x)
            after.append(state)
        return self.last(x), tuple(after)

    def iterate(self, x: Any, iterations: int, rng: Stream | None = None) -> list[Tensor]:
        """x^_1, x^_2, ...     (N, H, W, C) -> as many of that shape as there are iterations, not cut to [0, 1]

        Each changes its reconstruction by what its bits say of what the last one left.  All N share a scale: patches of training stand for
        the parts of one picture, of which some have little missing."""
        self.check(x)
        down: States = (None,) * len(self.down)
        up: States = (None,) * len(self.up)
        missing, pictures = ops.subtract(x, GRAY), []
        for _ in range(iterations):
            scale = scale_of(missing)
            t, down = self.encode_step(missing / scale, down)
            change, up = self.decode_step(self.binarize(t, rng), up)
            missing = missing - change * scale
            pictures.append(ops.subtract(x, missing))
        return pictures

    def check(self, x: Any) -> None:
        if x.ndim != 4 or x.shape[3] != self.image_shape[2] or x.shape[1] % STRIDE or x.shape[2] % STRIDE or not x.shape[1] * x.shape[2]:
            raise ShapeError(
                f"ProgressiveCodec: x is {tuple(x.shape)}; need (N, H, W, {self.image_shape[2]}), sides multiples of {STRIDE}: fill up by "
                "the edge"
            )


def scale_of(missing: Any) -> Tensor:
    """GAIN times the root mean square of what is missing and of LEAST.     (N, H, W, C) -> ()"""
    return ops.multiply(ops.sqrt(ops.square(missing).mean() + LEAST**2), GAIN)


def signs(t: Any) -> Any:
    return xp(t).where(t >= 0, t.dtype.type(1), t.dtype.type(-1))


def drawn_signs(t: Any, u: Any) -> Any:
    """1 where u < (1 + t) / 2, and -1 elsewhere."""
    return xp(t).where(2 * u < 1 + t, t.dtype.type(1), t.dtype.type(-1))
