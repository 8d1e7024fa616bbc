"""On a CUDA device: the whole op table on CuPy arrays, kernels and references alike; the gradients of layers within the bounds promised;
the same uniforms, bit for bit; a captured step; memory that runs out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivae import Op, Stream, use_precision
from minivae.backend import gpu
from minivae.errors import UsageError
from minivae.kernels.gpu import KERNELS, dense, launcher, step

from ..ops.laws import pulled_back, value
from ..ops.table import TABLE, cases
from .test_table import judged

pytestmark = pytest.mark.gpu
BOUNDS = {"fp32": 1e-5, "tf32": 1e-3}  # of a gradient, relative in norm


@pytest.fixture(params=["as it stands", "with every kernel"])
def wiring(request, monkeypatch):
    """The ops as they are wired, and with the kernels of this room put in by hand."""
    if request.param == "with every kernel":
        for name, pair in KERNELS.items():
            monkeypatch.setattr(Op.registry[name], "cupy", pair)
            monkeypatch.setattr(Op.registry[name], "only_reference", False)


def on_the_gpu(case):
    def compute(inputs, cotangents):
        there, u = ([gpu().asarray(a) for a in arrays] for arrays in (inputs, cotangents))
        return [a.get() for a in value(case, there)], [a.get() for a in pulled_back(case, u, there)]

    return compute


@pytest.mark.usefixtures("wiring")
@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_ops(name):
    @settings(max_examples=20)
    @given(data=st.data(), seed=st.integers(0, 10**6))
    def law(data, seed):
        case = data.draw(cases(name))
        judged(name, case, seed, on_the_gpu(case))

    law()


LAYERS = [
    ("dense", [(128, 784), (784, 400), (400,)], {"activation": "relu"}),
    ("dense", [(1000, 784), (784, 200), (200,)], {"activation": "tanh"}),
    ("dense", [(4100, 1030), (1030, 4097), (4097,)], {"activation": None}),  # tiles of 128, none full
    ("conv2d", [(128, 28, 28, 1), (4, 4, 1, 32), (32,)], {"stride": 2, "padding": 1, "activation": "tanh"}),
    ("conv2d", [(64, 32, 32, 32), (4, 4, 32, 32), (32,)], {"stride": 2, "padding": 1, "activation": "tanh"}),
    ("conv_transpose2d", [(64, 14, 14, 32), (4, 4, 1, 32), (1,)], {"stride": 2, "padding": 1, "activation": None}),
    ("conv_transpose2d", [(64, 7, 7, 64), (4, 4, 32, 64), (32,)], {"stride": 2, "padding": 1, "activation": "tanh"}),
]


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize(("name", "shapes", "options"), LAYERS)
def test_gradients_of_layers_within_the_bound(name, shapes, options, precision):
    rng = np.random.default_rng(0)
    fan = np.sqrt(np.prod(shapes[1][:-1]))
    arrays = [rng.normal(size=shape).astype(np.float32) / (fan if i == 1 else 1) for i, shape in enumerate(shapes)]
    forward, vjp = Op.registry[name].reference
    exact, saved = forward(*[a.astype(np.float64) for a in arrays], **options)
    g = rng.normal(size=exact.shape).astype(np.float32)
    with use_precision(precision):
        y, kept = KERNELS[name][0](*map(gpu().asarray, arrays), **options)
        found = y, *KERNELS[name][1](gpu().asarray(g), *kept, needs=(True,) * 3)
    if options["activation"] == "relu":  # rounding decides on which side of the kink a number lies: 1% of the gradient's norm in TF32
        saved = (*saved[:2], y.get().astype(np.float64), *saved[3:])
    truths = exact, *vjp(g.astype(np.float64), *saved, needs=(True,) * 3)
    for a, b in zip(truths, found, strict=True):
        assert np.linalg.norm(a - b.get()) <= BOUNDS[precision] * np.linalg.norm(a)


@pytest.mark.parametrize("n", [1, 7, 1_000_003])
def test_the_same_uniforms_and_nearly_the_same_normals(n):
    s, t = Stream(3), Stream(3)
    t.uniform(n)
    key = s.key
    assert step.uniform(key, 0, (n,)).get().tobytes() == s.uniform(n).tobytes()
    np.testing.assert_allclose(step.normal(key, s.counter, (n,)).get(), s.normal(n), atol=1e-5)
    assert Stream(3).uniform(n, like=gpu().zeros(1, np.float32)).get().tobytes() == Stream(3).uniform(n).tobytes()


def test_a_captured_step_moves_on_as_an_eager_one_does():
    cupy = gpu()

    def one(now, out):
        step.UNIFORM(now, 5, 0, out, out.size)
        step.advance(now, step.uniform_blocks(out.size), 32)

    eager, replayed = (cupy.zeros(3, np.uint64) for _ in range(2))
    a, b = cupy.empty(1001, np.float32), cupy.empty(1001, np.float32)
    one(eager, a)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        one(replayed, b)
        graph = stream.end_capture()
        for _ in range(3):
            graph.launch(stream)
    stream.synchronize()
    one(eager, a)
    one(eager, a)
    assert a.get().tobytes() == b.get().tobytes()
    assert eager.get().tolist() == replayed.get().tolist() == [3 * 251, 3, 96]


def test_the_same_bits_every_run():
    x = gpu().asarray(np.random.default_rng(1).normal(size=(500, 3000)).astype(np.float32))
    runs = [KERNELS["bernoulli_log_prob"][0](x, x)[0].get().tobytes() for _ in range(5)]
    runs_of_products = [dense.gemm(x, x, transpose_b=True).get().tobytes() for _ in range(5)]
    assert len(set(runs)) == len(set(runs_of_products)) == 1


def test_memory_that_runs_out_is_one_sentence():
    with pytest.raises(UsageError, match=r"the GPU is out of memory: .* MiB are needed .* use a smaller batch"):
        launcher.empty((2**20, 2**20))
