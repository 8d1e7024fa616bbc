r"""A convolution is a matrix product
=================================

A convolution as a matrix product whose matrix is never made::

    python demos/conv_as_matmul.py --out conv            the layers of a 28 x 28 and a 64 x 64 model
    python demos/conv_as_matmul.py --out conv --tiny     small batches: the results are checked, the times mean little

.. math:: y_{n p q o} = \sum_{i j c} x_{n,\, s p + i - t,\, s q + j - l,\, c} \, w_{i j c o}

with stride s and padding t and l is a product: a row of the left matrix is a patch of the image, a column of the right one a filter.  Three
ways to compute it::

    seven loops      reads what it needs where it lies, one number at a time
    im2col + BLAS    writes every patch to a matrix, then multiplies: a 4 x 4 kernel of stride 2 stores each pixel four times
    the library      two short tables of offsets tell the tile where a patch begins and where its taps lie: no matrix

Each result is within the rounding bound of the seven loops', ``2 gamma_K sum |x| |w|`` (see matmul_steps.py).  The weight gradient is
checked too, because it is the same product with the two tables swapped: patches^T g.
"""

import argparse
import sys
from pathlib import Path

import numba
import numpy as np
import stage
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from peak import in_a_process

from minivae.kernels.checks import output_size
from minivae.kernels.cpu.conv import conv2d_forward, conv2d_weight_gradient
from minivae.kernels.cpu.patches import forward_plan
from minivae.kernels.cpu.peak import best_time
from minivae.plots.layout import INK, SMALL, TEXT, TITLE, calm

KERNEL, STRIDE, PADDING = 4, (2, 2), ((1, 1), (1, 1))  # of every layer here: the image is halved
LAYERS = [  # name, batch, height and width, channels in, channels out
    ("28 x 28, 1 -> 32", 128, 28, 1, 32),
    ("14 x 14, 32 -> 64", 128, 14, 32, 64),
    ("64 x 64, 1 -> 32", 64, 64, 1, 32),
    ("32 x 32, 32 -> 32", 64, 32, 32, 32),
    ("16 x 16, 32 -> 32", 64, 16, 32, 32),
    ("8 x 8, 32 -> 32", 64, 8, 32, 32),
]
WAYS = {"seven loops": "0.75", "im2col + BLAS": "#D55E00", "library": "#0072B2"}


@numba.njit
def seven_loops(x, w, y):
    """The definition: n, p, q, o and, for each y, i, j, c.  Zeros outside the image are skipped."""
    (N, H, W, C), (KH, KW, _, _), (_, OH, OW, O) = x.shape, w.shape, y.shape
    for n in range(N):
        for p in range(OH):
            for q in range(OW):
                for o in range(O):
                    total = np.float32(0)
                    for i in range(KH):
                        for j in range(KW):
                            h, v = 2 * p + i - 1, 2 * q + j - 1
                            if 0 <= h < H and 0 <= v < W:
                                for c in range(C):
                                    total += x[n, h, v, c] * w[i, j, c, o]
                    y[n, p, q, o] = total


def im2col(x: np.ndarray) -> np.ndarray:
    """The matrix of patches.   (N, H, W, C) -> (N * OH * OW, KH * KW * C)"""
    padded = np.pad(x, ((0, 0), *PADDING, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(1, 2))[:, :: STRIDE[0], :: STRIDE[1]]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, KERNEL * KERNEL * x.shape[3])  # (N, OH, OW, C, i, j) -> rows of (i, j, C)


def through_im2col(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    N, H, W, _ = x.shape
    y = im2col(x) @ w.reshape(-1, w.shape[3])
    return y.reshape(N, output_size(H, KERNEL, STRIDE[0], PADDING[0]), output_size(W, KERNEL, STRIDE[1], PADDING[1]), -1)


def library(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return conv2d_forward(x, w, None, STRIDE, PADDING)


def layer(index: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    _, _, size, C, O = LAYERS[index]
    rng = np.random.default_rng(index)
    return rng.standard_normal((batch, size, size, C), np.float32), rng.standard_normal((KERNEL, KERNEL, C, O), np.float32)


def megabytes(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """What each way keeps in memory: x, w and y, and what it makes besides."""
    plan = forward_plan(x.shape[1], x.shape[2], w.shape, STRIDE, PADDING)
    tables = sum(array.nbytes for array in plan if isinstance(array, np.ndarray))
    buffers = 4 * plan.padded_floats * numba.get_num_threads()  # one group of zero-bordered images for each worker
    padded = x.nbytes // (x.shape[1] * x.shape[2]) * (x.shape[1] + 2) * (x.shape[2] + 2)
    besides = {"seven loops": 0, "im2col + BLAS": padded + 4 * y.size // y.shape[3] * w.size // w.shape[3], "library": tables + buffers}
    return {way: (x.nbytes + w.nbytes + y.nbytes + more) / 1e6 for way, more in besides.items()}


def check_results(index: int, batch: int) -> None:
    """All ways against the loops; the weight gradient against the matrix of patches, in float64."""
    x, w = layer(index, batch)
    y = np.empty(library(x, w).shape, np.float32)
    seven_loops(x, w, y)
    K = w.size // w.shape[3]
    patches = im2col(x).astype(np.float64)
    limit = 2 * K * 2.0**-24 / (1 - K * 2.0**-24) * (np.abs(patches) @ np.abs(w.reshape(K, -1))).reshape(y.shape)
    for function in (through_im2col, library):
        assert (np.abs(function(x, w) - y.astype(np.float64)) <= limit).all(), f"{LAYERS[index][0]}: {function.__name__} is wrong"
    g = np.random.default_rng(1).standard_normal(y.shape, np.float32)
    flat, pixels = g.reshape(-1, g.shape[3]), len(patches)
    limit = pixels * 2.0**-24 / (1 - pixels * 2.0**-24) * (np.abs(patches).T @ np.abs(flat))  # the other product is exact, almost
    gw = conv2d_weight_gradient(x, g, (KERNEL, KERNEL), STRIDE, PADDING).reshape(K, -1)
    assert (np.abs(gw - patches.T @ flat.astype(np.float64)) <= limit).all(), f"{LAYERS[index][0]}: the weight gradient is wrong"


def draw_layers(axes: list[Axes], names: list[str], times: list[dict[str, float]], sizes: list[dict[str, float]]) -> None:
    """Times on the left, memory on the right; a group of three bars for each layer."""
    for ax, values, label in zip(axes, (times, sizes), ("microseconds (logarithmic)", "megabytes (logarithmic)"), strict=True):
        for offset, (way, colour) in enumerate(WAYS.items()):
            places = np.arange(len(names)) + 0.27 * (offset - 1)
            ax.barh(places, [value[way] for value in values], height=0.25, color=colour, edgecolor="0.3", linewidth=0.5, label=way)
        ax.set_yticks(range(len(names)), names, fontsize=TEXT)
        ax.set(xscale="log", ylim=(len(names) - 0.5, -0.5))
        ax.set_xlabel(label, fontsize=TEXT, color=INK)
        calm(ax)
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    axes[0].figure.suptitle("Three ways to convolve", fontsize=TITLE, color=INK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("conv_as_matmul"), help="the folder of the figure")
    parser.add_argument("--tiny", action="store_true", help="small batches, a few seconds; only correctness is claimed")
    parser.add_argument("--blas", action="store_true", help=argparse.SUPPRESS)  # this process is the one that times NumPy
    chosen = parser.parse_args()
    seconds = 0.01 if chosen.tiny else 0.3
    batches = [2 if chosen.tiny else batch for _, batch, *_ in LAYERS]
    layers = [layer(index, batch) for index, batch in enumerate(batches)]
    if chosen.blas:
        print(*(best_time(lambda x=x, w=w: through_im2col(x, w), seconds) for x, w in layers))
        return
    for index in range(len(LAYERS)):
        check_results(index, 2)
    print("holds: all ways agree within the rounding bound on every layer; so do the weight gradients\n")
    arguments = ["--blas", *(["--tiny"] if chosen.tiny else [])]
    blas = [float(number) for number in in_a_process(Path(sys.argv[0]), arguments, numba.get_num_threads()).split()]
    print(f"{'':<20}{'seven loops':>22}{'im2col + BLAS':>22}{'library':>22}{'library':>12}")
    print(f"{'layer':<20}" + f"{'us':>13}{'MB':>9}" * 3 + f"{'GFLOP/s':>12}")
    times, sizes = [], []
    for (name, *_), (x, w), through_blas in zip(LAYERS, layers, blas, strict=True):
        y = library(x, w)
        elapsed = {
            "seven loops": best_time(lambda x=x, w=w, y=y: seven_loops(x, w, y), seconds),
            "im2col + BLAS": through_blas,
            "library": best_time(lambda x=x, w=w: library(x, w), seconds),
        }
        times.append({way: 1e6 * t for way, t in elapsed.items()})
        sizes.append(megabytes(x, w, y))
        rate = 2 * y.size * w.size / w.shape[3] / elapsed["library"] / 1e9
        print(f"{name:<20}" + "".join(f"{times[-1][way]:>13.0f}{sizes[-1][way]:>9.2f}" for way in WAYS) + f"{rate:>12.0f}")
        if not chosen.tiny:
            assert elapsed["library"] < elapsed["seven loops"], f"{name}: seven loops are faster"
    chosen.out.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(8, 5), facecolor="white", layout="constrained")
    draw_layers(list(figure.subplots(1, 2, sharey=True)), [name for name, *_ in LAYERS], times, sizes)
    stage.save(figure, chosen.out / "conv_as_matmul.png")


if __name__ == "__main__":
    main()
