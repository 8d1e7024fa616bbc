"""The two sweeps over images: correlation with a kernel, and the sum over pixels that is its gradient.

Correlation (forward, and input gradient phase by phase): the weights are packed into panels once; a worker copies a group of images into
its zero-bordered buffer, then sweeps tiles over their pixels, panel by panel, a deep panel in parts of at most DEPTH rows.  Workers fetch
runs of tiles (share.py), groups of images as long as there are many and parts of one at the end, so that one large image keeps them all
busy too.

Sum over pixels (weight gradient): the same images with rows and columns of A swapped, so that a row is a tap and the sum runs over pixels.
The batch is cut into parts by shape alone, and their sums are added in order: the number of threads does not change a bit.
"""

import numba
import numpy as np

from .gemm import PARALLEL_FROM, workers_for
from .jit import device, kernel, scratch
from .panels import DEPTH, PRODUCT, SWEEP_BUFFER, pack, sweep
from .patches import Plan
from .share import clear, counters, next_run, runs
from .tile import LANES, ROWS, WIDTH

PARTS = 8  # of a batch, in the weight gradient
PARTIAL_FLOATS = 1 << 23


@device
def _clear(padded):
    flat = padded.reshape(-1)
    for i in range(flat.size):
        flat[i] = 0


@device
def _pad(x, top, left, Wp, padded):
    """Copy the images x (n, H, W, C) into padded (n, Hp * Wp * C), whose border is zero already."""
    W, C = x.shape[2], x.shape[3]
    for n in range(x.shape[0]):
        for h in range(x.shape[1]):
            at = ((top + h) * Wp + left) * C
            source, target = x[n, h].reshape(-1), padded[n, at : at + W * C]
            for i in range(source.size):
                target[i] = source[i]


@device
def _correlate_tiles(runs, counters, x, geometry, rows, c_rows, columns, phases, packed, activation, y, buffer):
    N, H, W, C = x.shape
    Hp, Wp, top, left, images = geometry
    O = y.shape[3]
    image_in, image_out = Hp * Wp * C, y.shape[1] * y.shape[2] * O
    shift = packed.ctypes.data + columns.size * -(-O // WIDTH) * WIDTH * 4
    copied = Hp > H or Wp > W
    workspace = buffer[:SWEEP_BUFFER]
    padded = buffer[SWEEP_BUFFER : SWEEP_BUFFER + images * image_in].reshape(images, image_in)
    if copied:
        _clear(padded)

    group_tiles = 0
    for phase in range(phases.shape[0]):
        group_tiles += -(-images * phases[phase, 1] // ROWS)
    run = next_run(counters, 0)
    while run < runs.size - 1:
        unit, end = runs[run], runs[run + 1]
        while unit < end:
            group = unit // group_tiles
            position, wanted = unit - group * group_tiles, end - unit
            n0 = group * images
            present = min(images, N - n0)
            a_at = x.ctypes.data + n0 * H * W * C * 4
            if copied:
                _pad(x[n0 : n0 + present], top, left, Wp, padded)
                a_at = padded.ctypes.data
            for phase in range(phases.shape[0]):
                row, pixels, column, depth = phases[phase, 0], phases[phase, 1], phases[phase, 2], phases[phase, 3]
                count = present * pixels
                phase_tiles = -(-count // ROWS)
                first, last = min(position, phase_tiles), min(position + wanted, phase_tiles)
                for j0 in range(0, O, WIDTH):
                    panel = packed.ctypes.data + (column * -(-O // WIDTH) + depth * (j0 // WIDTH)) * WIDTH * 4
                    if last > first:
                        result = (y.ctypes.data + (n0 * image_out + j0) * 4, c_rows, count)
                        parts = max(1, -(-depth // DEPTH))
                        for part in range(parts):
                            k0, now = depth * part // parts, activation if part == parts - 1 else 0
                            patches = (a_at, rows, columns.ctypes.data + (column + k0) * 8, depth * (part + 1) // parts - k0)
                            weights = (panel + k0 * WIDTH * 4, WIDTH, min(WIDTH, O - j0), 0)
                            sweep(patches, weights, result, row, first, last, shift + j0 * 4, part > 0, now, 0, workspace)
                position -= first
                wanted -= last - first
                unit += last - first
        run = next_run(counters, 0)


@device
def _pack_weights(w, w_stride, bias, weights, phases, O, packed):
    """packed = the panels of every phase, then the bias, filled up to whole panels with zeros."""
    panels = -(-O // WIDTH)
    for phase in range(phases.shape[0]):
        column, depth = phases[phase, 2], phases[phase, 3]
        for p in range(panels):
            panel = packed[(column * panels + depth * p) * WIDTH :]
            pack(w[p * WIDTH * w_stride :], weights[column:], w_stride, depth, min(WIDTH, O - p * WIDTH), panel)
    shift = packed[weights.size * panels * WIDTH :]
    for j in range(panels * WIDTH):
        shift[j] = bias[j] if j < bias.size else 0


@kernel(parallel=True, links=PRODUCT)
def _correlate(
    runs, counters, x, w, w_stride, bias, activation, y, geometry, rows, c_rows, columns, weights, phases, packed, buffers, workers
):  # fmt: skip
    clear(counters)
    _pack_weights(w, w_stride, bias, weights, phases, y.shape[3], packed)
    if workers == 1:
        _correlate_tiles(runs, counters, x, geometry, rows, c_rows, columns, phases, packed, activation, y, buffers[0])
    else:
        for worker in numba.prange(workers):
            _correlate_tiles(runs, counters, x, geometry, rows, c_rows, columns, phases, packed, activation, y, buffers[worker])


def _plan_runs(plan: Plan, N: int, workers: int) -> np.ndarray:
    """The runs of tiles over the pixels of N images, phase by phase in each group of images."""
    images = plan.geometry[4]
    whole, rest = (sum(-(-n * int(pixels) // ROWS) for pixels in plan.phases[:, 1]) for n in (images, N % images))
    return runs(N // images * whole + rest, workers, max(1, whole // 4), whole)


def correlate(plan: Plan, x: np.ndarray, w: np.ndarray, w_stride: int, bias: np.ndarray, activation: int, y: np.ndarray) -> None:
    """y = act(bias + the correlation that the plan describes); `w_stride` floats lie between the weights of neighbouring channels of y."""
    O = y.shape[3]
    workers = workers_for(x.shape[0] * len(plan.rows) // plan.geometry[4] * len(plan.columns) * O)
    packed = scratch("packed", 1, (len(plan.columns) + 1) * -(-O // WIDTH) * WIDTH)[0]
    buffers = scratch("images", workers, SWEEP_BUFFER + plan.padded_floats)
    _correlate(
        _plan_runs(plan, x.shape[0], workers), counters(), x, w.reshape(-1), w_stride, bias, activation, y,
        plan.geometry, plan.rows, plan.c_rows, plan.columns, plan.weights, plan.phases, packed, buffers, workers,
    )  # fmt: skip


@device
def _weight_gradient_tiles(runs, counters, x, g, geometry, taps, pixels, partial, buffer):
    N, H, W, C = x.shape
    Hp, Wp, top, left, images = geometry
    O = g.shape[3]
    parts, K = partial.shape[0], partial.shape[1]
    pixels_each = g.shape[1] * g.shape[2]
    flat_g = g.reshape(-1)
    workspace, buffer = buffer[:SWEEP_BUFFER], buffer[SWEEP_BUFFER:]
    shift = buffer[:WIDTH]
    for j in range(WIDTH):
        shift[j] = 0
    buffer = buffer[WIDTH:]
    tables, buffer = buffer[: 2 * K + 2 * DEPTH].view(np.int64), buffer[2 * K + 2 * DEPTH :]
    gw_rows, g_rows = tables[:K], tables[K:]
    panel, buffer = buffer[: DEPTH * WIDTH], buffer[DEPTH * WIDTH :]
    padded = buffer[: images * Hp * Wp * C].reshape(images, Hp * Wp * C)
    for i in range(K):
        gw_rows[i] = i * O
    for i in range(DEPTH):
        g_rows[i] = i * O
    copied = Hp > H or Wp > W
    if copied:
        _clear(padded)

    part_tiles = -(-K // ROWS)
    run = next_run(counters, 0)
    while run < runs.size - 1:
        unit, end = runs[run], runs[run + 1]
        while unit < end:
            part = unit // part_tiles
            first = unit - part * part_tiles
            last = min(part_tiles, first + end - unit)
            unit += last - first
            target = partial.ctypes.data + part * K * O * 4
            start = N * part // parts
            for n0 in range(start, N * (part + 1) // parts, images):
                present = min(images, N * (part + 1) // parts - n0)
                a_at = x.ctypes.data + n0 * H * W * C * 4
                if copied:
                    _pad(x[n0 : n0 + present], top, left, Wp, padded)
                    a_at = padded.ctypes.data
                for p0 in range(0, present * pixels_each, DEPTH):
                    depth = min(DEPTH, present * pixels_each - p0)
                    for j0 in range(0, O, WIDTH):
                        width = min(WIDTH, O - j0)
                        source = flat_g[(n0 * pixels_each + p0) * O + j0 :]
                        b_at, b_stride = source.ctypes.data, O
                        if width != WIDTH and width != LANES:
                            pack(source, g_rows, 1, depth, width, panel)
                            b_at, b_stride = panel.ctypes.data, WIDTH
                        patches = (a_at, taps, pixels.ctypes.data + p0 * 8, depth)
                        result = (target + j0 * 4, gw_rows, K)
                        going_on = n0 > start or p0 > 0
                        sweep(patches, (b_at, b_stride, width, 0), result, 0, first, last, shift.ctypes.data, going_on, 0, 0, workspace)
        run = next_run(counters, 0)


@device
def _add_up(parts, total):
    for i in range(total.size):
        total[i] = 0
    for part in range(parts.shape[0]):
        source = parts[part]
        for i in range(total.size):
            total[i] += source[i]


@kernel(parallel=True, links=PRODUCT)
def _weight_gradient(runs, counters, x, g, geometry, taps, pixels, partial, gw, buffers, workers):
    clear(counters)
    if workers == 1:
        _weight_gradient_tiles(runs, counters, x, g, geometry, taps, pixels, partial, buffers[0])
    else:
        for worker in numba.prange(workers):
            _weight_gradient_tiles(runs, counters, x, g, geometry, taps, pixels, partial, buffers[worker])
    if partial.shape[0] > 1:
        _add_up(partial.reshape(partial.shape[0], -1), gw.reshape(-1))


def sum_over_pixels(plan: Plan, x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """sum over n, p of x[n, rows[p] + columns[k]] g[n, p, o], as a matrix (taps k, channels o); `plan` is a forward plan."""
    K, O = len(plan.columns), g.shape[3]
    gw = np.empty((K, O), np.float32)
    parts = 1 if g.size * K < PARALLEL_FROM else max(1, min(len(x), PARTS, PARTIAL_FLOATS // gw.size))
    partial = gw.reshape(1, K, O) if parts == 1 else scratch("partial", 1, parts * K * O)[0, : parts * K * O].reshape(parts, K, O)
    workers = workers_for(g.size * K)
    buffers = scratch("images", workers, SWEEP_BUFFER + WIDTH + 2 * K + 2 * DEPTH + DEPTH * WIDTH + plan.padded_floats)
    tiles = -(-K // ROWS)  # of a part
    work = runs(parts * tiles, workers, max(1, tiles // 4), tiles)
    _weight_gradient(work, counters(), x, g, plan.geometry, plan.columns, plan.rows, partial, gw, buffers, workers)
    return gw
