"""What this machine can do at most, measured: floating-point operations and bytes a second.

The peak is a loop of 2 ROWS chains v = v x + y, each in a vector register of its own: no load, no store.  A chain waits for itself (4
cycles, mostly); the others fill the time.  The bandwidth is that of y = a x + y over arrays that no cache holds.  Turbo, shared caches
and virtual cores are included: this is what a kernel can be compared with.
"""

import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils

from . import ahead
from .jit import intrinsic, kernel
from .tile import HAS_FMA, LANES, ROWS


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


@kernel(parallel=True)
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
    ahead.end()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if times[-1] > 10 * seconds:
            break
    return min(times)


@kernel(parallel=True)
def _triad(x, y, a, parts):
    for part in numba.prange(parts):
        first, last = x.size * part // parts, x.size * (part + 1) // parts
        source, target = x[first:last], y[first:last]
        for i in range(source.size):
            target[i] += a * source[i]


def bandwidth(seconds: float, megabytes: int = 128) -> float:
    """GB/s of y = a x + y over arrays of so many megabytes each: two numbers read and one written."""
    x = np.ones(megabytes << 18, np.float32)
    y = np.zeros_like(x)
    elapsed = best_time(lambda: _triad(x, y, np.float32(0.5), numba.get_num_threads()), seconds)
    return 3 * x.nbytes / elapsed / 1e9
