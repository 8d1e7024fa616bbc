"""What a training step draws, gathers, tallies and updates: random numbers, batches from bytes on the device, measures, Adam.

Kernels: philox.cu, gather.cu, tally.cu, adam.cu.  `step` is the device's own (counter, optimizer steps, first image, key), uint64:
launcher.py says how a captured step uses it.  `health` is 0, or NaN after a step that is not to count: then nothing moves.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ...backend import Array
from ...errors import ShapeError, UsageError
from .arrays import plain
from .launcher import Kernel, arrived, divide_up, empty

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


def address(a: Array) -> int:
    return a.ctypes.data if isinstance(a, np.ndarray) else a.data.ptr


class Gradients:
    """What gradients.cu calls Gradients: where each gradient is, and where its parameter lies in the flat arrays."""

    def __init__(self, slices: Sequence[slice], gradients: Sequence[Array]):
        sizes = [where.stop - where.start for where in slices]
        self.record = np.zeros(1, RECORD)
        at, n = self.record[0], len(sizes)
        at["at"][:n] = [address(g) for g in gradients]
        at["start"][:n], at["size"][:n] = [where.start for where in slices], sizes
        at["first_block"][1 : n + 1] = np.cumsum([divide_up(size, CHUNK) for size in sizes])
        at["count"] = n
        self.blocks = int(at["first_block"][n])


DRAW = "uint64?[4] step, uint64 key, uint64 counter, {}[n] {}, int64 n"
WORDS = Kernel("random_words", "philox.cu", DRAW.format("uint32", "words"), grid="spread(divide_up(n, 4))")
UNIFORM = Kernel("random_uniform", "philox.cu", DRAW.format("float32", "uniforms"), grid="spread(divide_up(n, 4))")
NORMAL = Kernel("random_normal", "philox.cu", DRAW.format("float32", "normals"), grid="spread(divide_up(n, 2))")
GATHER = Kernel(
    "gather",
    "gather.cu",
    "uint64?[3] step, uint8[count * pixels] images, int64[length] order, float32[rows * pixels] batch, int64[rows] index, int64 first, "
    "int64 rows, int64 pixels, int64 count, int64 length",
    grid="spread(rows * pixels)",
)
ADAM = Kernel(
    "adam",
    "adam.cu",
    "uint64[3] step, float32[1] rate, float32?[1] health, float64?[1] squares, float32[n] p, float32[n] m, float32[n] v, "
    "Gradients gradients, float64 clip, float64 b1, float64 b2, float32 eps, float32 decay, int64 n",
    grid="(gradients.blocks,)",
    structures={"Gradients": RECORD},
)
STREAMS, VALUES, PLAYERS = 64, 24, 8  # of tally.cu
MOVES = np.dtype([("blocks", np.uint64, STREAMS), ("images", np.uint64), ("optimizers", np.uint64), ("count", np.int32)], align=True)
TOLD = np.dtype([("at", np.uint64, VALUES), ("size", np.int64, VALUES), ("count", np.int32)], align=True)
TALLY = Kernel(
    "tally",
    "tally.cu",
    "Gradients gradients, float64[parts] partial, uint32[ARRIVALS] arrived, float64[player + 1] squares, Values values, "
    "float32?[values.count + player + 1] measures, float32?[1] health, float64?[values.count + player + 1] totals, "
    "uint64?[4 * moves.count] rows, Moves moves, int32 player, int64 first, int64 parts",
    grid="(max(gradients.blocks, 1),)",
    structures={"Gradients": RECORD, "Values": TOLD, "Moves": MOVES},
)


class Moves:
    """What tally.cu calls Moves: how far each row moves on.

    blocks        of random numbers, of each row's stream
    optimizers    of which rows the optimizer makes a step
    """

    def __init__(self, blocks: Sequence[int] = (), images: int = 0, optimizers: Sequence[int] = ()):
        self.record = np.zeros(1, MOVES)
        self.count = max([len(blocks), *[row + 1 for row in optimizers]])
        if self.count > STREAMS:
            raise UsageError(f"a step draws from {len(blocks)} streams, for {len(optimizers)} optimizers; need at most {STREAMS} rows")
        self.record["blocks"][0, : len(blocks)] = blocks
        self.record["optimizers"] = sum(1 << row for row in set(optimizers))
        self.record["images"], self.record["count"] = images, self.count


class Values:
    """What tally.cu calls Values: arrays whose means are told."""

    def __init__(self, arrays: Sequence[Array] = ()):
        if len(arrays) > VALUES:
            raise UsageError(f"a step tells of {len(arrays)} numbers; a kernel takes the means of at most {VALUES}")
        self.arrays, self.count = [plain(a) for a in arrays], len(arrays)  # the arrays live until the launch
        self.record = np.zeros(1, TOLD)
        at = self.record[0]
        at["at"][: self.count] = [address(a) for a in self.arrays]
        at["size"][: self.count], at["count"] = [a.size for a in self.arrays], self.count


class Draw(NamedTuple):
    """Normal numbers that the kernel which uses them will draw: see `normal`."""

    key: int
    counter: int
    shape: tuple[int, ...]
    step: Array | None


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


def gather(images: Array, order: Array, rows: int, first: int = 0, step: Array | None = None) -> tuple[Array, Array]:
    """index = order[first : first + rows], past L it starts again, and images[index] / 255.   (N, H, W, C) uint8, (L,) int64 ->
    (rows, H, W, C) float32, (rows,) int64

    An index that is no image gives NaN: a kernel cannot raise.
    """
    if rows and not (len(order) and len(images)):
        raise ShapeError(f"gather: {rows} images of a data set of {len(images)} in an order of {len(order)}; need at least one")
    batch, index = empty((rows, *images.shape[1:])), empty((rows,), np.int64)
    pixels = batch.size // rows if rows else 0
    GATHER(step, images, order, batch, index, first, rows, pixels, len(images), len(order))
    return batch, index


def tables(slices: Sequence[slice], gradients: Sequence[Array]) -> Iterator[tuple[Gradients, list[Array]]]:
    """The tables of a launch each, and the arrays that must live until it: one table for every 64 tensors."""
    for first in range(0, max(len(slices), 1), TABLE):
        parts, plains = slices[first : first + TABLE], [plain(g) for g in gradients[first : first + TABLE]]
        yield Gradients(parts, plains), plains


def squares(gradients: Sequence[Array]) -> Array:
    """The square of the norm of all gradients together.   -> (1,) float64"""
    total = empty((1,), np.float64)
    tallied(gradients, total, 0)
    return total


def tally(
    values: Sequence[Array],
    gradients: Sequence[Sequence[Array]],
    totals: Array | None = None,
    images: int = 0,
    rows: Array | None = None,
    blocks: Sequence[int] = (),
    optimizers: Sequence[int] = (0,),
) -> tuple[Array, Array, Array]:
    """The means of the values and the norm of each player's gradients; health, which is 0, or NaN where one of them is not finite; and the
    squares of the norms.

    totals += images * the measures of a sound step, if totals are given; and each row of a captured step moves on by so many images and
    its blocks of random numbers, those of `optimizers` by one step.
    values (V,) of any shapes, float32; gradients of P players; totals (V + P,) float64, rows (R, 4) uint64 -> (V + P,), (1,), (P,) float64
    """
    told, players = Values(values), len(gradients)
    if not 0 < players <= PLAYERS:
        raise UsageError(f"a step has gradients of {players} players; need 1 to {PLAYERS}")
    measures, health, found = empty((told.count + players,)), empty((1,)), empty((players,), np.float64)
    for player, own in enumerate(gradients[:-1]):
        tallied(own, found, player)
    moves = Moves(blocks if rows is not None else (), images, optimizers if rows is not None else ())
    tallied(gradients[-1], found, players - 1, told, measures, health, totals, rows, moves)
    return measures, health, found


def tallied(
    gradients: Sequence[Array],
    found: Array,
    player: int,
    values: Values | None = None,
    measures: Array | None = None,
    health: Array | None = None,
    totals: Array | None = None,
    rows: Array | None = None,
    moves: Moves | None = None,
) -> None:
    """The launches of one player; the last one's have measures."""
    slices = [slice(0, g.size) for g in gradients]
    parts = max(1, sum(divide_up(g.size, CHUNK) for g in gradients))
    partial, first = empty((parts,), np.float64), 0
    values, moves = values or Values(), moves or Moves()
    for table, _held in tables(slices, gradients):
        TALLY(table, partial, arrived(), found, values, measures, health, totals, rows, moves, player, first, parts)
        first += table.blocks


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
    clip: tuple[Array, float] | None = None,
) -> None:
    """Step number step[1] of Adam on flat (p, m, v), in place; slices[i] of them is parameter i, with gradients[i].

    rate    (1,);  step    (4,) uint64
    clip    the square of the gradients' norm, (1,) float64, and the largest norm that they may have: else they are scaled down to it
    """
    total, most = clip or (None, 0.0)
    if len(slices) != len(gradients):
        raise ShapeError(f"adam: {len(gradients)} gradients for {len(slices)} parameters")
    for where, g in zip(slices, gradients, strict=True):
        if g.size != where.stop - where.start:
            raise ShapeError(f"adam: a gradient of {g.shape} for {where.stop - where.start} parameters")
    p, m, v = flat
    for table, _held in tables(slices, gradients):
        ADAM(step, rate, health, total, p, m, v, table, most, *betas, eps, weight_decay, p.size)
