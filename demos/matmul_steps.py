"""A matrix product, step by step
==============================

From the three loops of a matrix product to the library's kernel, one idea a step, each step measured against the peak (peak.py)::

    python demos/matmul_steps.py --out matmul            512 x 512, half a minute
    python demos/matmul_steps.py --out matmul --full     256, 512 and 1024
    python demos/matmul_steps.py --out matmul --tiny     small and quick: the results are checked, the times mean little

C = A B, float32.  A step is a function (a, b, c) that fills c.  The blocks of steps 3 to 7 divide the matrices; step 8, the library,
takes any shape.  Every result is compared with that of the naive loops: two sums of K products, each in any order, with or without fused
multiply-adds, differ by at most ``2 gamma |A| |B|``, where ``gamma = K u / (1 - K u)`` and ``u = 2^-24`` (Higham 2002, section 3.1).
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import stage
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from peak import in_a_process, innermost

from minivae.kernels.cpu.gemm import gemm
from minivae.kernels.cpu.peak import best_time, peak
from minivae.kernels.cpu.tile import HAS_FMA, LANES, ROWS, WIDTH, make_tile
from minivae.plots.layout import INK, SMALL, TEXT, TITLE, calm

Matrix = np.ndarray
step = numba.njit(fastmath={"contract"}, error_model="numpy")  # a b + c may become one instruction; the order of a sum stays


# --- the steps ---------------------------------------------------------------------------------------------------------------------


def python_loops(a: list, b: list) -> list:
    """Step 0: the definition.  c[i, j] = sum_k a[i, k] b[k, j], lists of lists."""
    M, K, N = len(a), len(b), len(b[0])
    c = [[0.0] * N for _ in range(M)]
    for i in range(M):
        for j in range(N):
            for k in range(K):
                c[i][j] += a[i][k] * b[k][j]
    return c


@numba.njit
def naive(a, b, c):
    """Step 1: the same, compiled.  Each addition waits for the one before, and b is read down a column: a cache line for one number."""
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = np.float32(0)
            for k in range(b.shape[0]):
                total += a[i, k] * b[k, j]
            c[i, j] = total


@step
def reordered(a, b, c):
    """Step 2: j innermost.  Neighbours in b and c are used together: the compiler makes vector instructions of the inner loop."""
    c[:] = 0
    for i in range(a.shape[0]):
        row_of_c = c[i]
        for k in range(b.shape[0]):
            a_ik, row_of_b = a[i, k], b[k]
            for j in range(row_of_c.size):
                row_of_c[j] += a_ik * row_of_b[j]


BLOCK_K, BLOCK_J = 16, 512  # 32 KB of b


@step
def blocked(a, b, c):
    """Step 3: a block of b that fits the first-level cache stays there while all rows of a pass by."""
    c[:] = 0
    for j0 in range(0, b.shape[1], BLOCK_J):
        for k0 in range(0, b.shape[0], BLOCK_K):
            for i in range(a.shape[0]):
                row_of_c = c[i, j0 : j0 + BLOCK_J]
                for k in range(k0, k0 + BLOCK_K):
                    a_ik, row_of_b = a[i, k], b[k, j0 : j0 + BLOCK_J]
                    for j in range(row_of_c.size):
                        row_of_c[j] += a_ik * row_of_b[j]


@step
def packed(a, b, c):
    """Step 4: the block is copied, so that it is one stretch of memory: no two of its rows compete for a place in the cache."""
    c[:] = 0
    for j0 in range(0, b.shape[1], BLOCK_J):
        for k0 in range(0, b.shape[0], BLOCK_K):
            block = b[k0 : k0 + BLOCK_K, j0 : j0 + BLOCK_J].copy()
            for i in range(a.shape[0]):
                row_of_c = c[i, j0 : j0 + BLOCK_J]
                for k in range(BLOCK_K):
                    a_ik, row_of_b = a[i, k0 + k], block[k]
                    for j in range(row_of_c.size):
                        row_of_c[j] += a_ik * row_of_b[j]


@step
def four_at_a_time(a, b, c):
    """Step 5: four k in one pass, so that a row of c is fetched and stored once for four multiply-adds instead of once for each."""
    c[:] = 0
    for j0 in range(0, b.shape[1], BLOCK_J):
        for k0 in range(0, b.shape[0], BLOCK_K):
            block = b[k0 : k0 + BLOCK_K, j0 : j0 + BLOCK_J].copy()
            for i in range(a.shape[0]):
                row_of_a, row_of_c = a[i, k0 : k0 + BLOCK_K], c[i, j0 : j0 + BLOCK_J]
                for k in range(0, BLOCK_K, 4):
                    a0, a1, a2, a3 = row_of_a[k], row_of_a[k + 1], row_of_a[k + 2], row_of_a[k + 3]
                    b0, b1, b2, b3 = block[k], block[k + 1], block[k + 2], block[k + 3]
                    for j in range(row_of_c.size):
                        row_of_c[j] = row_of_c[j] + a0 * b0[j] + a1 * b1[j] + a2 * b2[j] + a3 * b3[j]


@step
def pack(b, j0, panel):
    """panel[k, j] = b[k, j0 + j]: WIDTH columns of b, one row after the other in memory."""
    for k in range(b.shape[0]):
        source, target = b[k, j0 : j0 + WIDTH], panel[k]
        for j in range(WIDTH):
            target[j] = source[j]


@step
def tiled(a, b, c):
    """Step 6: a block of c for a whole sum: a row of the panel serves ROWS times.  But the block is an array, so it lives in memory."""
    M = a.shape[0]
    panel = np.empty((b.shape[0], WIDTH), np.float32)
    block = np.empty((ROWS, WIDTH), np.float32)
    for j0 in range(0, b.shape[1], WIDTH):
        pack(b, j0, panel)
        for i0 in range(0, M, ROWS):
            block[:] = 0
            for k in range(b.shape[0]):
                row_of_b = panel[k]
                for r in range(ROWS):
                    a_ik, row_of_c = a[min(i0 + r, M - 1), k], block[r]
                    for j in range(WIDTH):
                        row_of_c[j] += a_ik * row_of_b[j]
            for r in range(min(ROWS, M - i0)):
                c[i0 + r, j0 : j0 + WIDTH] = block[r]


tile = make_tile(ROWS, 2, LANES, HAS_FMA)


@step
def in_registers(a, b, c):
    """Step 7: the same schedule, but the block is 2 ROWS vector registers, and c is written once.  Row M - 1 stands in for missing rows."""
    (M, K), N = a.shape, b.shape[1]
    panel, zeros = np.empty((K, WIDTH), np.float32), np.zeros(WIDTH, np.float32)
    columns, rows, c_rows, one_row = np.arange(K), np.empty(ROWS, np.int64), np.empty(ROWS, np.int64), np.zeros(ROWS, np.int64)
    for j0 in range(0, N, WIDTH):
        pack(b, j0, panel)
        for i0 in range(0, M, ROWS):
            for r in range(ROWS):
                i = min(i0 + r, M - 1)
                rows[r], c_rows[r] = i * K, i * N
            tile(
                a.ctypes.data, rows.ctypes.data, columns.ctypes.data, K, panel.ctypes.data, WIDTH,
                zeros.ctypes.data, one_row.ctypes.data, c.ctypes.data + j0 * 4, c_rows.ctypes.data, np.float32(-np.inf),
            )  # fmt: skip


def library(a: Matrix, b: Matrix, c: Matrix) -> None:
    """Step 8: edges, transposes and depth in blocks besides; all threads; act(A B + bias) at the price of A B."""
    c[:] = gemm(a, b)


def one_thread(a: Matrix, b: Matrix, c: Matrix) -> None:
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    library(a, b, c)
    numba.set_num_threads(threads)


STEPS: dict[str, Callable] = {
    "1  the same loops, compiled": naive,
    "2  j innermost: vectors": reordered,
    "3  blocks that fit the cache": blocked,
    "4  blocks copied together": packed,
    "5  four k in one pass": four_at_a_time,
    "6  tile as a small array": tiled,
    "7  tile in registers": in_registers,
    "8  library, one thread": one_thread,
    "8  library, all threads": library,
}
NAIVE, ONE, ALL = (list(STEPS)[i] for i in (0, -2, -1))


# --- the claims, and the table ------------------------------------------------------------------------------------------------------


def matrices(n: int) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(n)
    return rng.standard_normal((n, n), np.float32), rng.standard_normal((n, n), np.float32)


def time_blas(n: int, seconds: float) -> tuple[float, float]:
    """Seconds for a @ b, and for tanh(a @ b + bias) in three passes."""
    a, b = matrices(n)
    bias = b[0].copy()
    return best_time(lambda: a @ b, seconds), best_time(lambda: np.tanh(a @ b + bias), seconds)


def bound(a: Matrix, b: Matrix) -> Matrix:
    """What two computed products may differ by, element by element: 2 gamma |A| |B|."""
    K = b.shape[0]
    return 2 * K * 2.0**-24 / (1 - K * 2.0**-24) * (np.abs(a).astype(np.float64) @ np.abs(b))


def check_results(n: int, small: int) -> None:
    a, b = matrices(n)
    expected = np.empty((n, n), np.float32)
    naive(a, b, expected)
    corner, limit = python_loops(a[:small].tolist(), b[:, :small].tolist()), bound(a, b)
    assert (np.abs(corner - expected[:small, :small]) <= limit[:small, :small]).all(), "compiled and interpreted loops disagree"
    results = {name: np.full((n, n), np.nan, np.float32) for name in STEPS}
    for name, function in STEPS.items():
        function(a, b, results[name])
        assert (np.abs(results[name] - expected.astype(np.float64)) <= limit).all(), f"step {name!r} differs from the naive loops"
    assert np.array_equal(results[ONE], results[ALL]), "threads changed the bits"
    assert (np.abs(gemm(a[:7], b[:, :5]) - expected[:7, :5].astype(np.float64)) <= limit[:7, :5]).all(), "7 x 5 is wrong"


def table(n: int, seconds: float, small: int, peaks: tuple[float, float]) -> list[tuple[str, float, float]]:
    """Print and return (step, GFLOP/s, the peak of the threads it may use)."""
    lists = [m[:small, :small].tolist() for m in matrices(n)]
    rows = [(f"0  three loops in Python (n = {small})", 2 * small**3 / best_time(lambda: python_loops(*lists), seconds) / 1e9, peaks[0])]
    (a, b), c, threads = matrices(n), np.empty((n, n), np.float32), numba.get_num_threads()
    times = {name: best_time(lambda f=function: f(a, b, c), seconds) for name, function in STEPS.items()}
    rows += [(name, 2 * n**3 / t / 1e9, peaks["all threads" in name]) for name, t in times.items()]
    blas = [in_a_process(Path(sys.argv[0]), ["--blas", str(n), str(seconds)], count).split() for count in (1, threads)]
    rows += [(f"   NumPy's BLAS, {w} thread{'s' * i}", 2 * n**3 / float(blas[i][0]) / 1e9, peaks[i]) for i, w in enumerate(("one", "all"))]
    print(f"\n{n} x {n} x {n}: {2 * n**3 / 1e6:.1f} million operations; peak {peaks[0]:.0f} GFLOP/s, {threads} threads {peaks[1]:.0f}")
    print(f"{'step':<36}{'GFLOP/s':>9}{'of peak':>9}{'times step 1':>14}")
    for name, rate, limit in rows:
        print(f"{name:<36}{rate:>9.3g}{rate / limit:>9.1%}{rate / rows[1][1]:>14.3g}")
    alone, fused = times[ALL], best_time(lambda: gemm(a, b, bias=b[0].copy(), activation="tanh"), seconds)
    print(f"tanh(A B + bias) instead of A B: library {alone * 1e6:.0f} -> {fused * 1e6:.0f} us, ", end="")
    print(f"NumPy {float(blas[1][0]) * 1e6:.0f} -> {float(blas[1][1]) * 1e6:.0f} us")
    return rows


def draw_ladder(ax: Axes, rows: list[tuple[str, float, float]], peaks: tuple[float, float], n: int) -> Axes:
    """One bar a step on a logarithmic scale, in their order; NumPy in gray."""
    names, rates = [name for name, _, _ in rows], [rate for _, rate, _ in rows]
    colours = ["#0072B2" if name[0] != " " else "0.6" for name in names]  # blue and gray differ in lightness too
    ax.barh(range(len(rows)), rates, left=0, color=colours, height=0.7)
    ax.set_yticks(range(len(rows)), names, fontsize=TEXT)
    ax.invert_yaxis()
    ax.set(xscale="log", xlim=(min(rates) / 4, 1.4 * max(rates + list(peaks))))
    for y, rate in enumerate(rates):
        ax.text(1.01, y, f"{rate:.3g}", va="center", fontsize=TEXT, color=INK, transform=ax.get_yaxis_transform())
    for value, style, name in ((peaks[0], "--", "peak of one core"), (peaks[1], "-", "peak of all threads")):
        ax.axvline(value, color="#D55E00", linestyle=style, linewidth=1.2, label=f"{name}: {value:.0f}")
    ax.figure.legend(fontsize=SMALL, frameon=False, loc="outside lower center", ncols=2, labelcolor=INK)
    ax.set_xlabel("GFLOP/s (logarithmic)", fontsize=TEXT, color=INK)
    ax.set_title(f"A matrix product of {n} x {n}, step by step", fontsize=TITLE, color=INK)
    return calm(ax)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("matmul_steps"), help="the folder of the figure")
    parser.add_argument("--tiny", action="store_true", help="small sizes, a few seconds; only correctness is claimed")
    parser.add_argument("--full", action="store_true", help="several sizes")
    parser.add_argument("--blas", nargs=2, help=argparse.SUPPRESS)  # this process is the one that times NumPy
    chosen = parser.parse_args()
    if chosen.blas:
        print(*time_blas(int(chosen.blas[0]), float(chosen.blas[1])))
        return
    sizes = (128,) if chosen.tiny else (256, 512, 1024) if chosen.full else (512,)
    seconds, small = (0.01, 24) if chosen.tiny else (0.3, 96)
    check_results(sizes[0], small)
    print(f"holds: every step gives the product: within the rounding bound at n = {sizes[0]}; one and all threads agree to the bit")
    peaks = peak(1, seconds), peak(numba.get_num_threads(), seconds)
    print(f"the tile is {ROWS} x {WIDTH}: {ROWS} rows of 2 vectors of {LANES} floats")
    for name in list(STEPS)[4:7]:
        vectors, numbers, stores = innermost(STEPS[name])
        if vectors + numbers:  # instructions of another processor are not counted
            print(f"innermost loop of step {name}: multiply-adds of {vectors} vectors and {numbers} numbers, {stores} stores")
    for n in sizes:
        rows = table(n, seconds, small, peaks)
        rates = {name: rate for name, rate, _ in rows}
        faster = max(rates[ONE], rates[ALL]) / rates[NAIVE]
        if n >= 512:
            assert faster >= 20, f"the library is only {faster:.1f} times as fast as the naive loops"
    chosen.out.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(8, 4.6), facecolor="white", layout="constrained")
    draw_ladder(figure.add_subplot(), rows, peaks, sizes[-1])
    stage.save(figure, chosen.out / "matmul_steps.png")


if __name__ == "__main__":
    main()
