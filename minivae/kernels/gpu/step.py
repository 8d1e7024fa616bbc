"""What a training step draws, gathers, tallies and updates: random numbers, batches from bytes on the device, measures, Adam.

Kernels: philox.cu, gather.cu, tally.cu, adam.cu, step.cu.  `step` is the device's own (counter, optimizer steps, first image, key), uint64:
launcher.py says how a captured step uses it.  `health` is 0, or NaN after a step that is not to count: then nothing moves.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ...backend import Array
from ...errors import ShapeError
from .arrays import plain
from .launcher import Kernel, divide_up, empty

TABLE, CHUNK = 64, 1024  # of gradients.cu
RECORD = np.dtype(
    [
        ("at", np.uint64, TABLE),
        ("start", np.int64, TABLE),
        ("size", np.int64, TABLE),
        ("first_block", np.int32, TABLE + 1),
        ("count", np.int32),
    ],
    align=True,
)


class Gradients:
    """What gradients.cu calls Gradients: where each gradient is, and where its parameter lies in the flat arrays."""

    def __init__(self, slices: Sequence[slice], gradients: Sequence[Array]):
        sizes = [where.stop - where.start for where in slices]
        self.record = np.zeros(1, RECORD)
        at, n = self.record[0], len(sizes)
        at["at"][:n] = [g.ctypes.data if isinstance(g, np.ndarray) else g.data.ptr for g in gradients]
        at["start"][:n], at["size"][:n] = [where.start for where in slices], sizes
        at["first_block"][1 : n + 1] = np.cumsum([divide_up(size, CHUNK) for size in sizes])
        at["count"] = n
        self.blocks = int(at["first_block"][n])


DRAW = "uint64?[4] step, uint64 key, uint64 counter, {}[n] {}, int64 n"
WORDS = Kernel("random_words", "philox.cu", DRAW.format("uint32", "words"), grid="spread(divide_up(n, 4))")
UNIFORM = Kernel("random_uniform", "philox.cu", DRAW.format("float32", "uniforms"), grid="spread(divide_up(n, 4))")
NORMAL = Kernel("random_normal", "philox.cu", DRAW.format("float32", "normals"), grid="spread(divide_up(n, 2))")
ADVANCE = Kernel("advance", "step.cu", "uint64[3] step, float32?[1] health, uint64 blocks, uint64 batch", grid="(1,)", block="(1,)")
GATHER = Kernel(
    "gather",
    "gather.cu",
    "uint64?[3] step, uint8[count * pixels] images, int64[length] order, float32[rows * pixels] batch, int64 first, int64 rows, "
    "int64 pixels, int64 count, int64 length",
    grid="spread(rows * pixels)",
)
ADAM = Kernel(
    "adam",
    "adam.cu",
    "uint64[3] step, float32[1] rate, float32?[1] health, float32[n] p, float32[n] m, float32[n] v, Gradients gradients, float64 b1, "
    "float64 b2, float32 eps, float32 decay, int64 n",
    grid="(gradients.blocks,)",
    structures={"Gradients": RECORD},
)
SUM_OF_SQUARES = Kernel(
    "sum_of_squares",
    "tally.cu",
    "Gradients gradients, float64[n] partial, int64 first, int64 n",
    grid="(gradients.blocks,)",
    structures={"Gradients": RECORD},
)
TALLY = Kernel(
    "tally",
    "tally.cu",
    "float32[1] loss, float32[likelihoods] log_likelihood, float32[kls] kl, float64[parts] partial, float32[4] measures, "
    "float32[1] health, float64?[4] totals, int64 likelihoods, int64 kls, int64 parts, int64 images",
    grid="(1,)",
)


def uniform_blocks(n: int) -> int:
    """Blocks that a draw of n words or uniforms takes from a stream."""
    return divide_up(n, 4)


def normal_blocks(n: int) -> int:
    """Blocks that a draw of n normal numbers takes: two uniforms a pair."""
    return divide_up(2 * divide_up(n, 2), 4)


def words(key: int, counter: int, n: int, step: Array | None = None) -> Array:
    """Stream.words: n random words from block `counter` on.   -> (n,) uint32"""
    out = empty((n,), np.uint32)
    WORDS(step, key, counter, out, n)
    return out


def uniform(key: int, counter: int, shape: tuple[int, ...], step: Array | None = None) -> Array:
    """Stream.uniform, bit for bit: float32 on [0, 1)."""
    out = empty(shape)
    UNIFORM(step, key, counter, out, out.size)
    return out


def normal(key: int, counter: int, shape: tuple[int, ...], step: Array | None = None) -> Array:
    """Stream.normal: the same uniforms; cos, sin and log1p of the device."""
    out = empty(shape)
    NORMAL(step, key, counter, out, out.size)
    return out


def advance(step: Array, blocks: int, batch: int, health: Array | None = None) -> None:
    """The last launch of a step: `blocks` random blocks were drawn, `batch` images used, and the optimizer went one step on."""
    ADVANCE(step, health, blocks, batch)


def gather(images: Array, order: Array, rows: int, first: int = 0, step: Array | None = None) -> Array:
    """images[order[first : first + rows]] / 255.   (N, H, W, C) uint8, (L,) int64 -> (rows, H, W, C) float32; past L it starts again

    An index that is no image gives NaN: a kernel cannot raise.
    """
    if rows and not (len(order) and len(images)):
        raise ShapeError(f"gather: {rows} images of a data set of {len(images)} in an order of {len(order)}; need at least one")
    batch = empty((rows, *images.shape[1:]))
    pixels = batch.size // rows if rows else 0
    GATHER(step, images, order, batch, first, rows, pixels, len(images), len(order))
    return batch


def tables(slices: Sequence[slice], gradients: Sequence[Array]) -> Iterator[tuple[Gradients, list[Array]]]:
    """The tables of a launch each, and the arrays that must live until it: one table for every 64 tensors."""
    for first in range(0, len(slices), TABLE):
        parts, plains = slices[first : first + TABLE], [plain(g) for g in gradients[first : first + TABLE]]
        yield Gradients(parts, plains), plains


def sums_of_squares(gradients: Sequence[Array]) -> Array:
    """Float64 numbers whose sum is the square of the norm of all gradients together."""
    slices = [slice(0, g.size) for g in gradients]
    n = sum(divide_up(g.size, CHUNK) for g in gradients)
    partial, first = empty((n,), np.float64), 0
    for table, _held in tables(slices, gradients):
        SUM_OF_SQUARES(table, partial, first, n)
        first += table.blocks
    return partial


def tally(
    loss: Array, log_likelihood: Array, kl: Array, gradients: Sequence[Array], totals: Array | None = None, images: int = 0
) -> tuple[Array, Array]:
    """(loss, -mean log p(x | z), mean KL, norm of the gradients), and health: 0, or NaN where loss or norm is not finite.

    totals += images * the measures of a sound step, if totals are given.   loss (), any shapes; totals (4,) float64 -> (4,), (1,)
    """
    measures, health, partial = empty((4,)), empty((1,)), sums_of_squares(gradients)
    loss, log_likelihood, kl = plain(loss), plain(log_likelihood), plain(kl)
    TALLY(loss, log_likelihood, kl, partial, measures, health, totals, log_likelihood.size, kl.size, partial.size, images)
    return measures, health


def adam(
    step: Array,
    rate: Array,
    flat: tuple[Array, Array, Array],
    slices: Sequence[slice],
    gradients: Sequence[Array],
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    health: Array | None = None,
) -> None:
    """One step of Adam on flat (p, m, v), in place; slices[i] of them is parameter i, with gradients[i].   rate: (1,), step: (4,) uint64

    The number of the step is step[1] + 1: `advance` counts it.
    """
    if len(slices) != len(gradients):
        raise ShapeError(f"adam: {len(gradients)} gradients for {len(slices)} parameters")
    for where, g in zip(slices, gradients, strict=True):
        if g.size != where.stop - where.start:
            raise ShapeError(f"adam: a gradient of {g.shape} for {where.stop - where.start} parameters")
    p, m, v = flat
    for table, _held in tables(slices, gradients):
        ADAM(step, rate, health, p, m, v, table, *betas, eps, weight_decay, p.size)
