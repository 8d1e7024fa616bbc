"""The peak of the machine
=======================

How many multiply-adds of float32 numbers do the cores do, when nothing else is asked of them?  ``python demos/peak.py --out peak`` says it.

A loop of chains v = v x + y, each in a vector register of its own: no load, no store (``minivae/kernels/cpu/peak.py``).  What is measured
is what a kernel can be compared with, turbo, shared caches and virtual cores included.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import stage
from matplotlib.figure import Figure

from minivae.kernels.cpu.cache import cpu
from minivae.kernels.cpu.peak import peak
from minivae.kernels.cpu.tile import HAS_FMA, LANES
from minivae.plots.layout import INK, TEXT, calm


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
    stage.save(draw(rates), chosen.out / "peak.png")


if __name__ == "__main__":
    main()
