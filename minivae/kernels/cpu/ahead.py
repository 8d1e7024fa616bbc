"""The first run of all: a second process compiles too, and what takes 13 seconds on one core is ready after 8.

It calls the kernels of a training step, those first that the step needs last, and ends.  The two meet in the middle: what one of them
has compiled the other finds in the cache, and what one is compiling the other waits for (cache.py).  A training that has all it needs does
not wait, and goes on beside it: so it has the lower priority, else two workers that wait for each other lose twenty times what it takes.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_started: list[Any] = []  # the second process
SECOND = "MINIVAE_COMPILES_AHEAD"  # set in the second process, which starts no third


def begin(folder: Path | None, threads: int) -> None:
    """Start the second process, where a second thread may run and nothing is compiled yet."""
    if folder is not None and threads > 1 and SECOND not in os.environ and next(folder.glob("*.nbi"), None) is None:
        root = str(Path(__file__).parents[3])
        found = os.environ | {SECOND: "1", "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
        quiet = subprocess.DEVNULL
        command = [sys.executable, "-m", __name__]
        # a group of its own, which Ctrl-C spares; in a session of its own it would have half of the cores, however low its priority
        process = subprocess.Popen(command, env=found, stdin=quiet, stdout=quiet, stderr=quiet, process_group=0)
        process.returncode = 0  # nobody need wait for it
        _started.append(process)


def end() -> None:
    """Wait until the second process has ended: whoever measures wants the cores for himself."""
    while _started:
        process = _started.pop()
        process.returncode = None
        process.wait()


def last_first() -> None:
    """Call the kernels of a dense step, then those of a convolutional one, each from the end to its beginning."""
    import numpy as np

    from . import adam, conv, densities, gaussians, gemm, means

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    p, m, v = zeros(3, 40_000)
    adam.adam(p, m, v, [zeros(40_000)], [0], 0.1)  # parallel, as all with so many numbers
    gemm.dense_vjp(zeros(8, 8), zeros(8, 8), zeros(8, 8), zeros(8, 8), None, (True, True, True))
    densities.bernoulli_log_prob_vjp(zeros(100), densities.bernoulli_log_prob(zeros(100, 784), zeros(100, 784))[1])
    means.mean_vjp(means.mean(zeros(8)), (8,))
    head, noise = zeros(8, 16), zeros(8, 8)
    mean, logvar = head[:, :8], head[:, 8:]  # halves, as in the step: numba compiles for what lies together, and again for what does not
    gaussians.sample_and_kl_vjp(noise, zeros(8), mean, logvar, noise)
    x, g, w = zeros(2, 4, 4, 4), zeros(2, 2, 2, 4), zeros(2, 2, 4, 4)
    conv.conv2d_weight_gradient(x, g, (2, 2), (2, 2), ((0, 0), (0, 0)))
    conv.through_activation(g, g, "relu", True)
    conv.conv2d_input_gradient(zeros(2, 2, 2, 32), zeros(4, 4, 1, 32), (2, 4, 4, 1), (2, 2), ((1, 1), (1, 1)))  # scattered
    conv.conv2d_forward(x, w, None, (2, 2), ((0, 0), (0, 0)))
    gaussians.sample_and_kl(mean, logvar, noise)


def second() -> None:
    """What the second process does."""
    if hasattr(os, "nice"):
        os.nice(10)
    last_first()


if __name__ == "__main__":
    second()
