"""minivae bench: how fast this machine trains.

A step is what a user writes: fresh noise, encode, sample, decode, the objective, its gradients, Adam; captured, as
the trainer's are.  The six workloads are those that
benchmarks/ compares with other frameworks.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Tensor, gradients
from ..errors import UsageError
from ..kernels.cpu import ahead, cache, jit, tile
from ..models import VAE
from ..objectives import elbo, iwae
from ..profiling import profile
from ..random import Stream
from ..replay import captured
from ..runs import write_atomically
from ..training import Adam
from ..version import VERSION
from .train import announce_compiling

FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "neon", "sve")  # what a multiply-add of floats may be made of
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Workload:
    """A VAE, a batch and an objective."""

    name: str
    image: tuple[int, int, int]  # H, W, C
    batch: int
    hidden: tuple[int, ...]
    latent: int
    convs: tuple[tuple[int, int, int], ...] = ()  # (channels, kernel, stride) of the encoder; padding is (kernel - 1) // 2
    activation: str = "relu"
    samples: int = 0  # importance samples an image; 0: the ELBO

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of the image and after each convolution."""
        sizes = [self.image[:2]]
        for _, kernel, stride in self.convs:
            height, width = sizes[-1]
            reach = 2 * ((kernel - 1) // 2) - kernel
            sizes.append(((height + reach) // stride + 1, (width + reach) // stride + 1))
        return sizes


def _halving(*channels: int) -> tuple[tuple[int, int, int], ...]:
    return tuple((c, 4, 2) for c in channels)


WORKLOADS = {
    w.name: w
    for w in (
        Workload("mlp", (28, 28, 1), 128, (400,), 20),
        Workload("iwae1", (28, 28, 1), 20, (200, 200), 50, activation="tanh", samples=1),
        Workload("iwae50", (28, 28, 1), 20, (200, 200), 50, activation="tanh", samples=50),
        Workload("conv", (28, 28, 1), 128, (256,), 20, _halving(32, 64)),
        Workload("burgess", (64, 64, 1), 64, (256, 256), 10, _halving(32, 32, 32, 32)),
        Workload("tiny", (8, 8, 1), 32, (32,), 2),
    )
}


def vae(w: Workload, rng: Stream) -> VAE:
    """The library's own VAE of a workload; its convolutions are 4x4 with stride 2."""
    if any(conv[1:] != (4, 2) for conv in w.convs):
        raise UsageError(f"{w.name}: its (channels, kernel, stride) are {w.convs}; a VAE's kernels are 4 wide, with stride 2")
    arch = "conv" if w.convs else "dense"
    return VAE(w.image, rng, w.latent, arch, w.hidden, [conv[0] for conv in w.convs] or None, w.activation)


def objective(w: Workload, model: Any, x: np.ndarray, rng: Any) -> Tensor:
    """-> (), nats per image"""
    return iwae(model, x, rng, w.samples) if w.samples else elbo(model, x, rng).loss


def training_step(w: Workload, model: Any, x: np.ndarray, rng: Stream) -> Callable[[], Tensor]:
    """One update of the model by x, with fresh noise at every call."""
    params = model.parameters()
    optimizer = Adam(params, LEARNING_RATE)
    recorded = captured(lambda x: objective(w, model, x, rng), params)

    def step() -> Tensor:
        loss, gs = recorded(x)
        optimizer.step(gs)
        return loss

    return step


def flops(loss: Tensor) -> int:
    """Additions and multiplications of the matrix products and convolutions in one step: the forward ones in the graph of the loss, and
    for each the gradients of its weight and, unless that is a constant, of its input.  Taps on padding count, as is the custom."""
    total, seen, pending = 0, {loss}, [loss]
    while pending:
        tensor = pending.pop()
        if tensor.op is not None and tensor.op.name in ("dense", "conv2d", "conv_transpose2d"):
            x, w = tensor.parents[:2]
            assert w is not None
            few = x if tensor.op.name == "conv_transpose2d" and x is not None else tensor  # the side with one position a patch
            total += 2 * w.size * (few.size // w.shape[-1]) * (2 if x is None else 3)
        fresh = {parent for parent in tensor.parents if parent is not None} - seen
        seen |= fresh
        pending += fresh
    return total


def seconds_a_step(step: Callable[[], Any], seconds: float) -> np.ndarray:
    """Timings of short chunks of steps for about so many seconds, the first steps (compiling, filling caches) left out."""
    for _ in range(3):
        start = time.perf_counter()
        step()
        once = time.perf_counter() - start
        ahead.end()
    steps = max(1, int(min(0.05, seconds / 10) / once))
    timings: list[float] = []
    end = time.perf_counter() + seconds
    while not timings or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        timings.append((time.perf_counter() - start) / steps)
    return np.array(timings)


def spread(values: Any) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile."""
    low, median, high = np.percentile(values, (10, 50, 90)).tolist()
    return median, low, high


def eager_overhead(links: int = 500, repeats: int = 20) -> tuple[float, float]:
    """Seconds an op beyond its NumPy calls, in the forward and in the backward sweep of a chain of products of 8 numbers.

    The least of several runs: whatever else the machine does only adds.
    """
    a = np.ones(8, np.float32)
    x = Tensor(a)

    def chain(y: Any) -> Any:
        for _ in range(links):
            y = y * a
        return y

    def numpy_vjps() -> None:
        for _ in range(links):
            _, _ = a * a, a * a  # the vjp of a product is two

    def least(run: Callable[[], Any]) -> float:
        return min(_timed(run) for _ in range(repeats))

    end = chain(x)
    forward = least(lambda: chain(x)) - least(lambda: chain(a))
    backward = least(lambda: gradients(end, [x], a)) - least(numpy_vjps)
    return forward / links, backward / links


def _timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def set_up(w: Workload) -> tuple[VAE, np.ndarray, Stream, Callable[[], Tensor]]:
    """w's VAE, a batch of random binary images, where all randomness comes from, and a training step."""
    rng = Stream(0)
    model = vae(w, rng.split("weights"))
    x = (rng.split("images").uniform((w.batch, *w.image)) < 0.3).astype(np.float32)
    return model, x, rng, training_step(w, model, x, rng.split("noise"))


def measure(w: Workload, seconds: float) -> dict[str, float]:
    """Train w's VAE on random binary images."""
    model, x, rng, step = set_up(w)
    median, low, high = spread(seconds_a_step(step, seconds))
    work = flops(objective(w, model, x, rng.split("noise")))
    return {
        "milliseconds": 1e3 * median,
        "milliseconds_10th_percentile": 1e3 * low,
        "milliseconds_90th_percentile": 1e3 * high,
        "images_per_second": w.batch / median,
        "megaflop": work / 1e6,
        "gigaflop_per_second": work / median / 1e9,
    }


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    name, features = cache.cpu()
    known = features.split(",")
    return {
        "minivae": VERSION,
        "python": platform.python_version(),
        "cpu": name,
        "features": [feature for feature in FEATURES if f"+{feature}" in known],
        "tile": [tile.ROWS, tile.WIDTH],
        "threads": jit.threads(),
    }


def show_profiles(names: Sequence[str], folder: Path) -> None:
    """Print each workload's kernels, and draw them under the roof of this machine."""
    from ..plots.roofline import roofline  # Matplotlib

    for name in names:
        found = profile(set_up(WORKLOADS[name])[-1])
        print(f"\n{name}, batch {WORKLOADS[name].batch}\n{found}")
        folder.mkdir(parents=True, exist_ok=True)
        roofline(found, f"A training step of {name}: its products").savefig(folder / f"{name}.png", dpi=120)
        print(folder / f"{name}.png", flush=True)


def bench_command(options: argparse.Namespace, device: str | None) -> None:
    """Print the time of a training step, workload by workload."""
    if not (options.seconds > 0 and math.isfinite(options.seconds)):
        raise UsageError(f"--seconds is {options.seconds}; need a positive number")
    if options.profile is not None and options.json is not None:
        raise UsageError("--profile prints a table and draws, and writes no --json; give one of the two")
    found = machine()
    print(
        f"minivae {VERSION} on {found['cpu']} ({' '.join(found['features']) or 'no vector features named'}), "
        f"threads: {found['threads']}, register tile: {tile.ROWS} x {tile.WIDTH} floats"
    )
    announce_compiling()
    if options.profile is not None:
        show_profiles(options.workload or list(WORKLOADS), options.profile)
        return
    print("one training step: noise, forward, objective, gradients, Adam; float32")
    print(f"{'workload':9s}{'batch':>6s}{'ms':>10s}  10th to 90th percentile{'images/s':>12s}{'GFLOP/s':>9s}", flush=True)
    rows = {}
    for name in options.workload or WORKLOADS:
        w = WORKLOADS[name]
        rows[name] = row = measure(w, options.seconds)
        ms, low, high, images, _, rate = row.values()
        print(f"{name:9s}{w.batch:6d}{ms:10.3f}  {low:10.3f} to {high:.3f}".ljust(52) + f"{images:12,.0f}{rate:9.1f}", flush=True)
    if jit.compiling.kernels:
        print(f"compiled on the way: {jit.compiling.kernels} kernels in {jit.compiling.seconds:.1f} s, once for this processor")
    forward, backward = eager_overhead()
    print(f"eager overhead of an op beyond its NumPy call: {1e6 * forward:.2f} us forward, {1e6 * backward:.2f} us backward")
    if options.json is not None:
        report = {"machine": found, "workloads": rows, "overhead_microseconds": {"forward": 1e6 * forward, "backward": 1e6 * backward}}
        write_atomically(options.json, json.dumps(report, indent=1).encode())
        print(options.json)
