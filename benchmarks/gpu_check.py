"""Is the GPU right?  Values and gradients of every kernel against the float64 reference, and the same random numbers, bit for bit.

What no op reaches (batches, the counters and measures of a step, Adam) is compared with the CPU's in the same way, or by a tiny training;
networks in integers, which files are coded with, to the bit.
"""

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minivae as mv
from minivae import Op, Stream, Tensor, nn
from minivae.backend import gpu, use_precision
from minivae.compress import Portable
from minivae.kernels.gpu import KERNELS, dense, step
from minivae.training import Adam, gradient_norm

BOUNDS = {"fp32": 1e-5, "tf32": 1e-3}  # |found - exact| / |exact|, of all numbers of a gradient together
PRODUCTS = ("dense", "conv2d", "conv_transpose2d", "matmul", "gru", "lstm")  # what TF32 changes
HALVED = {"stride": 2, "padding": 1}


@dataclass
class Layer:
    """An op at a size that a model has, and at a small one for the tests."""

    op: str
    shapes: list[tuple[int, ...]]
    small: list[tuple[int, ...]]
    options: dict[str, Any] = field(default_factory=dict)

    def arrays(self, shapes: list[tuple[int, ...]], rng: np.random.Generator) -> list[np.ndarray]:
        """Normal numbers; weights are scaled so that what comes out is of size 1, and what is to be a probability is one."""
        drawn = [rng.normal(size=shape) for shape in shapes]
        if self.op == "bernoulli_log_prob":
            drawn[1] = rng.uniform(size=shapes[1])
        weights = {"dense": [1], "conv2d": [1], "conv_transpose2d": [1], "matmul": [1], "gru": [2, 3], "lstm": [3, 4]}.get(self.op, [])
        for i in weights:
            drawn[i] /= math.sqrt(math.prod(shapes[i][:-1]))
        return [a.astype(np.float32) for a in drawn]


def same(op: str, shape: tuple[int, ...], small: tuple[int, ...], count: int = 1, **options: Any) -> Layer:
    return Layer(op, [shape] * count, [small] * count, options)


ROWS, FEW, LARGE = (1000, 784), (5, 40), (2100, 1030)  # the last in tiles of 128, none of them full
LAYERS = [
    Layer("dense", [(128, 784), (784, 400), (400,)], [(9, 30), (30, 20), (20,)], {"activation": "relu"}),
    Layer("dense", [(1000, 784), (784, 200), (200,)], [(9, 30), (30, 20), (20,)], {"activation": "tanh"}),
    Layer("dense", [(128, 256), (256, 3136), (3136,)], [(9, 30), (30, 70), (70,)], {"activation": "sigmoid"}),
    Layer("dense", [LARGE, (1030, 2050), (2050,)], [(70, 30), (30, 70), (70,)]),
    Layer("conv2d", [(128, 28, 28, 1), (4, 4, 1, 32), (32,)], [(2, 8, 8, 1), (4, 4, 1, 5), (5,)], {**HALVED, "activation": "relu"}),
    Layer("conv2d", [(64, 32, 32, 32), (4, 4, 32, 32), (32,)], [(2, 8, 8, 3), (4, 4, 3, 5), (5,)], {**HALVED, "activation": "tanh"}),
    Layer("conv2d", [(64, 14, 14, 64), (4, 4, 64, 32), (32,)], [(1, 4, 4, 40), (4, 4, 40, 20), (20,)], HALVED),  # of each width of tile
    Layer("conv2d", [(64, 14, 14, 32), (3, 3, 32, 16), (16,)], [(1, 4, 4, 20), (3, 3, 20, 5), (5,)], HALVED),
    Layer("conv2d", [(128, 14, 14, 32), (4, 4, 32, 64)], [(1, 4, 4, 20), (4, 4, 20, 40)], {**HALVED, "activation": "relu"}),  # no bias
    Layer("conv_transpose2d", [(64, 14, 14, 32), (4, 4, 1, 32), (1,)], [(2, 4, 4, 5), (4, 4, 1, 5), (1,)], HALVED),
    Layer(
        "conv_transpose2d",
        [(64, 7, 7, 64), (4, 4, 32, 64), (32,)],
        [(2, 4, 4, 5), (4, 4, 3, 5), (3,)],
        {**HALVED, "activation": "relu"},
    ),
    Layer("matmul", [(8, 130, 70), (8, 70, 90)], [(2, 6, 7), (2, 7, 3)]),
    Layer("matmul", [LARGE, (1030, 2050)], [(70, 30), (30, 70)]),
    Layer("gru", [(64, 28, 28), (64, 128), (28, 384), (128, 384), (384,), (128,)], [(3, 4, 5), (3, 6), (5, 18), (6, 18), (18,), (6,)]),
    Layer(
        "lstm",
        [(64, 28, 28), (64, 128), (64, 128), (28, 512), (128, 512), (512,)],
        [(3, 4, 5), (3, 6), (3, 6), (5, 24), (6, 24), (24,)],
    ),
    Layer("batch_norm", [(128, 14, 14, 32), (32,), (32,)], [(3, 10, 10, 33), (33,), (33,)]),  # rows in parts
    *(same(op, ROWS, FEW) for op in ("relu", "leaky_relu", "elu", "silu", "tanh", "sigmoid", "softplus")),
    *(same(op, ROWS, FEW) for op in ("softmax", "log_softmax")),
    same("logsumexp", (50, 1000), (5, 9), axis=0),
    same("bernoulli_log_prob", ROWS, FEW, 2),
    same("gaussian_log_prob", ROWS, FEW, 3),
    same("gaussian_kl_standard", ROWS, FEW, 2),
    same("reparameterize", ROWS, FEW, 3),
    same("sample_and_kl", ROWS, FEW, 3),
]


def pieces(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def like(value: Any, parts: list[Any]) -> Any:
    return tuple(parts) if isinstance(value, tuple) else parts[0]


def errors(layer: Layer, precision: str, small: bool, upload: Callable, download: Callable, at: Callable) -> dict[str, float]:
    """{"value": relative error, "gradient of input 0": ...}, in norm."""
    rng = np.random.default_rng(0)
    arrays = layer.arrays(layer.small if small else layer.shapes, rng)
    forward, vjp = Op.registry[layer.op].reference
    exact, saved = forward(*[a.astype(np.float64) for a in arrays], **layer.options)
    g = [rng.normal(size=part.shape).astype(np.float32) for part in pieces(exact)]
    needs = {"needs": (True,) * len(arrays)} if Op.registry[layer.op].takes_needs else {}
    with at(precision):
        y, kept = KERNELS[layer.op][0](*map(upload, arrays), **layer.options)
        found = [*pieces(y), *KERNELS[layer.op][1](like(exact, [upload(part) for part in g]), *kept, **needs)]
    if layer.options.get("activation") == "relu":
        # on which side of the kink a number lies, rounding may decide: the slope is that of the value that was found
        saved = (*saved[:2], download(y).astype(np.float64), *saved[3:])
    truths = [*pieces(exact), *vjp(like(exact, [part.astype(np.float64) for part in g]), *saved, **needs)]
    names = ["value"] * len(g) + [f"gradient of input {i}" for i in range(len(arrays))]
    result: dict[str, float] = {}
    truths, found = ([part for part in parts if part is not None] for parts in (truths, found))  # a bias that is not there
    for name, truth, there in zip(names, truths, found, strict=True):
        error = np.linalg.norm(download(there) - truth) / max(np.linalg.norm(truth), 1e-30)
        result[name] = max(float(error), result.get(name, 0.0)) if math.isfinite(error) else math.inf
    return result


def uniforms(n: int, upload: Callable, download: Callable) -> bool:
    """Whether the device draws the bits that the CPU draws: n uniforms from somewhere in a stream, as ops and graphs draw them."""
    here = Stream(3)
    here.uniform(7)
    key, counter = here.key, here.counter
    there = Stream(3)
    there.set_state(here.state())
    bits = here.uniform(n).tobytes()
    like = upload(np.zeros(1, np.float32))
    return download(step.uniform(key, counter, (n,))).tobytes() == bits == download(there.uniform(n, like=like)).tobytes()


@contextmanager
def large_tiles() -> Iterator[None]:
    """Products by tiles of 128 inside, which only large ones have."""
    before = dense.tile_of
    dense.tile_of = lambda M, N: 128
    try:
        yield
    finally:
        dense.tile_of = before


def of_a_step(n: int) -> dict[str, tuple[float, float]]:
    """{what: (error, bound)} of what a training step has beside its ops, each against the CPU's."""
    cupy, rng = gpu(), np.random.default_rng(2)
    like = cupy.zeros(1, np.float32)
    found = {"random words": (float((Stream(5).words(n, like=like).get() != Stream(5).words(n)).sum()), 0.0)}
    # log1p, sqrt, cos and sin to 2 units each, the angle off by 2 pi eps, the radius at most 5.8
    exact = Stream(5).normal(n).astype(np.float64)
    normals = abs(Stream(5).normal(n, like=like).get() - exact).max()
    found["normal numbers"] = float(normals), 5.8 * (8 + 2 * math.pi) * 2.0**-24
    images, order = rng.integers(0, 256, (9, 4, 3, 1), np.uint8), rng.permutation(9)
    rows = step.gather(cupy.asarray(images), cupy.asarray(order), 5, 6)[0].get()
    found["a batch"] = float(abs(rows - images[np.roll(order, -6)[:5]] / np.float32(255)).max()), 2.0**-23
    gs = [rng.normal(size=shape).astype(np.float32) for shape in ((n,), (3, 5), (1,))]
    norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gs))
    found["the norm of gradients"] = abs(gradient_norm([cupy.asarray(g) for g in gs]) / norm - 1), 1e-6
    here, there = ([Tensor(to(g)) for g in gs] for to in (np.copy, cupy.asarray))
    for params, to in ((here, np.copy), (there, cupy.asarray)):
        optimizer = Adam(params, 1e-2)
        for _ in range(3):
            optimizer.step([to(g * g) for g in gs])
    moved = max(float(abs(a.data - b.data.get()).max()) for a, b in zip(here, there, strict=True))
    found["Adam"] = moved, 3 * 1e-2 * 16 * 2.0**-24 + max(float(abs(g).max()) for g in gs) * 3 * 2.0**-23
    trainers = []
    for where in ("cpu", "cuda"):  # a step as a graph: gather, forward, backward, tally, Adam
        model = mv.VAE((4, 3, 1), Stream(0), latent=2, hidden=(5,)).to(where)
        trainers.append(mv.Trainer(model, mv.TrainingConfig(batch_size=4, epochs=2)))
    data = rng.integers(0, 256, (17, 4, 3, 1), np.uint8)
    cpu, cuda = ([trainer.epoch(data)["loss"] for _ in range(2)] for trainer in trainers)
    graph = trainers[1].on_gpu
    found["a tiny training"] = (max(abs(a / b - 1) for a, b in zip(cuda, cpu, strict=True)) if graph.graphs else math.inf), 1e-4
    return found


def of_coding(rows: int, units: int) -> dict[str, tuple[float, float]]:
    """{what: (numbers that differ, 0)}: a coder's networks are of integers, which every machine makes alike."""
    network = nn.Sequential(nn.Dense(71, units, Stream(0), "relu"), nn.Dense(units, 33, Stream(1)))
    portable, a = Portable(network), np.rint(np.random.default_rng(3).normal(size=(rows, 71)) * 2**16)  # sums that float32 has no room for
    there = portable.on_gpu().run(gpu().asarray(a)).get()
    return {"a network in integers": (float((there != portable.run(a)).sum()), 0.0)}


def check(
    small: bool = False,
    upload: Callable | None = None,
    download: Callable = lambda a: a.get(),
    at: Callable = use_precision,
    layers: Sequence[Layer] = LAYERS,
) -> Iterator[dict[str, Any]]:
    """A row for every kernel and precision: {"what", "precision", "worst", "of", "bound", "holds"}.  By default on the GPU.

    A check that fails to run is wrong, too; the others go on.
    """
    upload = gpu().asarray if upload is None else upload
    for layer in layers:
        for precision in BOUNDS if layer.op in PRODUCTS else ("fp32",):
            what = f"{layer.op} {'x'.join(map(str, layer.shapes[0]))} {layer.options.get('activation') or ''}".strip()
            bound = BOUNDS[precision]
            yield judged(what, precision, bound, lambda: errors(layer, precision, small, upload, download, at))  # noqa: B023 (at once)
            if small and layer.shapes[0] == LARGE:
                with large_tiles():
                    found = judged(f"{what}, tiles of 128", precision, bound, lambda: errors(layer, precision, small, upload, download, at))  # noqa: B023
                yield found
    for n in (1, 7, 1003 if small else 1_000_003):
        yield judged(f"{n} uniforms", "bits", 0.0, lambda: {"value": 0.0 if uniforms(n, upload, download) else 1.0})  # noqa: B023
    for what, precision, found in (
        ("what a step has beside its ops", "step", lambda: of_a_step(1003 if small else 1_000_003)),
        ("a network in integers", "bits", lambda: of_coding(*((6, 9) if small else (501, 400)))),
    ):
        try:
            for one, (worst, bound) in found().items():
                yield {"what": one, "precision": precision, "worst": worst, "of": "value", "bound": bound, "holds": worst <= bound}
        except Exception as error:
            yield failed(what, precision, 0.0, error)


def judged(what: str, precision: str, bound: float, found: Callable[[], dict[str, float]]) -> dict[str, Any]:
    try:
        of, worst = max(found().items(), key=lambda item: item[1])
    except Exception as error:
        return failed(what, precision, bound, error)
    holds = worst <= bound
    return {"what": what, "precision": precision, "worst": worst, "of": of, "bound": bound, "holds": holds}


def failed(what: str, precision: str, bound: float, error: Exception) -> dict[str, Any]:
    row = {"what": what, "precision": precision, "worst": math.inf, "of": "nothing", "bound": bound, "holds": False}
    return row | {"why": f"{type(error).__name__}: {error}", "traceback": "".join(traceback.format_exception(error))}
