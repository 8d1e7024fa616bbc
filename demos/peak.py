"""The peak of the machine
=======================

How many multiply-adds of float32 numbers do the cores do, when nothing else is asked of them?  ``python demos/peak.py --out peak`` says it.

A loop of 2 ROWS chains v = v x + y, each in a vector register of its own: no load, no store.  A chain waits for itself (4 cycles, mostly);
the others fill the time.  What is measured is what a kernel can be compared with, turbo, shared caches and virtual cores included.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from matplotlib.figure import Figure
from numba.core import cgutils

from minivae.kernels.cpu.jit import cpu, intrinsic
from minivae.kernels.cpu.tile import HAS_FMA, LANES, ROWS
from minivae.plots.layout import INK, TEXT, calm


@intrinsic
def multiply_adds(typing_context, rounds, x, y, result):
    """`rounds` times  v = v x + y  for 2 ROWS vectors v that do not depend on each other; their sum goes to the address `result`."""
    vector = ir.VectorType(ir.FloatType(), LANES)

    def generate(context, builder, signature, arguments):
        rounds, x, y, result = arguments
        undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        x, y = (builder.shuffle_vector(builder.insert_element(undefined, s, ir.IntType(32)(0)), undefined, first) for s in (x, y))
        enter, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i, chains = builder.phi(ir.IntType(64)), [builder.phi(vector) for _ in range(2 * ROWS)]
        if HAS_FMA:
            fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32")
            longer = [builder.call(fma, [v, x, y]) for v in chains]
        else:
            longer = [builder.fadd(builder.fmul(v, x, flags=("contract",)), y, flags=("contract",)) for v in chains]
        next_i = builder.add(i, ir.IntType(64)(1))
        i.add_incoming(ir.IntType(64)(0), enter)
        i.add_incoming(next_i, loop)
        for n, (v, w) in enumerate(zip(chains, longer, strict=True)):
            v.add_incoming(ir.Constant(vector, [float(n)] * LANES), enter)
            v.add_incoming(w, loop)
        builder.cbranch(builder.icmp_signed("<", next_i, rounds), loop, done)
        builder.position_at_end(done)
        total = longer[0]
        for v in longer[1:]:
            total = builder.fadd(total, v)
        builder.store(total, builder.inttoptr(result, vector.as_pointer()), align=4)
        return context.get_dummy_value()

    return numba.types.void(numba.types.int64, numba.types.float32, numba.types.float32, numba.types.int64), generate


@numba.njit(parallel=True)
def _peak(threads, rounds, x, y, results):
    for thread in numba.prange(threads):
        multiply_adds(rounds, x, y, results.ctypes.data + thread * 4096)


def peak(threads: int, seconds: float) -> float:
    """GFLOP/s of a loop of nothing but multiply-adds, two operations a lane: no program on these cores is faster."""
    rounds, results = 50_000, np.empty((threads, 1024), np.float32)  # a page a thread
    elapsed = best_time(lambda: _peak(threads, rounds, np.float32(0.5), np.float32(1), results), seconds)
    assert (results[:, :LANES] == 4 * ROWS).all(), "v = v / 2 + 1 ends at 2, in every chain"
    return threads * rounds * 2 * ROWS * LANES * 2 / elapsed / 1e9


def best_time(call: Callable[[], Any], seconds: float) -> float:
    """The shortest of at least 3 calls after a first one, in seconds; other programs only ever add to a time."""
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if times[-1] > 10 * seconds:
            break
    return min(times)


def in_a_process(script: Path, arguments: list[str], blas_threads: int) -> str:
    """What `script` prints.  A process of its own: the threads of NumPy's BLAS and of numba would fight for the cores."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    environment |= {name: str(blas_threads) for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600).stdout


def innermost(function: Any) -> tuple[int, int, int]:
    """Multiply-adds of vectors, of numbers, and stores in that basic block of its machine code (x86-64 with AVX) that has most of them."""
    vectors, numbers = re.compile(r"\bvf\w*madd\d*ps\b"), re.compile(r"\bvf\w*madd\d*ss\b")
    stores = re.compile(r"\bvmov\w+\s+%[xyz]mm\d+, [^%\n]*\(")
    blocks = re.split(r"^\S+:.*$", next(iter(function.inspect_asm().values())), flags=re.MULTILINE)
    code = max(blocks, key=lambda block: 100 * len(vectors.findall(block)) + len(numbers.findall(block)))
    return len(vectors.findall(code)), len(numbers.findall(code)), len(stores.findall(code))


def draw(rates: dict[str, float]) -> Figure:
    """A bar for one thread, and one for all."""
    figure = Figure(figsize=(6.4, 1.6), facecolor="white", layout="constrained")
    ax = calm(figure.add_subplot())
    bars = ax.barh(list(rates), list(rates.values()), color="#0072B2", height=0.6)
    ax.bar_label(bars, fmt="%.0f", padding=3, fontsize=TEXT, color=INK)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.12 * max(rates.values()))
    ax.set_xlabel("GFLOP/s", fontsize=TEXT, color=INK)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("peak"), help="the folder of the figure")
    parser.add_argument("--tiny", action="store_true", help="quick, and less sure")
    chosen = parser.parse_args()
    print(f"{cpu()[0]}: vectors of {LANES} floats" + ("" if HAS_FMA else ", a product and a sum apart"))
    rates = {}
    for threads in sorted({1, numba.get_num_threads()}):
        name = f"{threads} thread{'s' if threads > 1 else ''}"
        rates[name] = peak(threads, 0.01 if chosen.tiny else 0.5)
        print(f"{name}: {rates[name]:.0f} GFLOP/s")
    chosen.out.mkdir(parents=True, exist_ok=True)
    draw(rates).savefig(chosen.out / "peak.png", dpi=120)


if __name__ == "__main__":
    main()
