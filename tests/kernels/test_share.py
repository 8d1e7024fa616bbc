"""Work that is fetched: every run is taken once, cores of one speed end together, and a slow core takes less."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minivae.kernels.cpu.share import runs


@given(units=st.integers(0, 5000), workers=st.integers(1, 64), least=st.integers(1, 50), group=st.integers(1, 40))
def test_runs_cover_the_units_and_are_fair(units, workers, least, group):
    ends = runs(units, workers, least, group)
    sizes = np.diff(ends)
    assert ends[0] == 0
    assert ends[-1] == units
    assert (sizes > 0).all()
    assert len(sizes) <= workers * (2 + np.log(units + 1) / np.log(4 / 3))
    # cores of one speed, of which each takes the next run as soon as it is free: the runs of a round differ by one unit at most
    busy = np.zeros(workers)
    for size in sizes:
        busy[busy.argmin()] += size
    assert busy.max() - busy.min() <= -(-len(sizes) // workers)


SLOW = """
import numba, numpy as np
from minivae.kernels.cpu.share import clear, counters, next_run, runs

@numba.njit(parallel=True)
def share(ends, counters, owner, numbers, spins, workers):
    clear(counters)
    for worker in numba.prange(workers):
        run = next_run(counters, 0)
        while run < ends.size - 1:
            owner[run] = worker
            for unit in range(ends[run], ends[run + 1]):
                x = 1.0
                for i in range(spins[worker]):
                    x = x * 0.999 + i
                numbers[unit] = x
            run = next_run(counters, 0)

ends, numbers = runs(400, 2), np.zeros(400)
owner = np.full(len(ends) - 1, -1)
share(ends, counters(), owner, numbers, np.array([400_000, 20_000]), 2)
assert (owner >= 0).all() and (numbers != 0).all()
print(np.diff(ends)[owner == 0].sum() / 400)
"""


def test_a_slow_worker_takes_less():
    """One that is twenty times as slow does its first run, three eighths of all, which it took before anybody could know; no half."""
    assert float(run(SLOW, threads=2)) < 0.376


def run(program, threads):
    """What it prints, with so many threads."""
    root = Path(__file__).parents[2]
    env = os.environ | {"NUMBA_NUM_THREADS": str(threads), "PYTHONPATH": str(root)}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True, timeout=300).stdout


THREADS = """
import hashlib, numpy as np
from minivae.kernels.cpu import conv
from minivae.kernels.cpu.gemm import dense_vjp, gemm
r = np.random.default_rng(0)
a, b, x, w = (r.normal(size=s).astype(np.float32) for s in ((301, 600), (600, 333), (9, 21, 20, 5), (4, 3, 5, 17)))
y = gemm(a, b, activation="tanh")
g = conv.conv2d_forward(x, w, None, (2, 1), ((1, 2), (0, 1)))
made = [y, *dense_vjp(y, a, b, y, "tanh", (True, True, True)), g]
made += [conv.conv2d_input_gradient(g, w, x.shape, (2, 1), ((1, 2), (0, 1)))]
made += [conv.conv2d_weight_gradient(x, g, (4, 3), (2, 1), ((1, 2), (0, 1)))]
print(hashlib.sha256(b"".join(m.tobytes() for m in made)).hexdigest())
"""


def test_bits_do_not_depend_on_threads():
    """One, two, and more than there are cores."""
    one, *others = [run(THREADS, threads) for threads in (1, 2, 7)]
    assert others == [one, one]
