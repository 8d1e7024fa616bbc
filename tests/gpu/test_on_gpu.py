"""On a CUDA device: the whole op table on CuPy arrays, kernels and references alike; the gradients of layers within the bounds promised;
the same uniforms, bit for bit; graphs of training steps against eager ones; a whole run; memory that grows, and that runs out."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivae import Op, Stream, use_precision
from minivae.backend import gpu
from minivae.cli import main
from minivae.errors import UsageError
from minivae.kernels.gpu import KERNELS, dense, launcher, step
from minivae.objectives import elbo

from ..compress.conftest import images_of
from ..ops.laws import pulled_back, value
from ..ops.table import TABLE, cases
from ..processes import alone, common_folder
from . import test_graph, test_players, test_samples
from .test_coding import STORIES as CODERS
from .test_coding import back, file_of
from .test_graph import CONDITIONAL, IMAGES, STORIES, promised, same_state, trained
from .test_players import STORIES as PLAYERS
from .test_samples import SAMPLERS
from .test_table import judged

pytestmark = pytest.mark.gpu
BOUNDS = {"fp32": 1e-5, "tf32": 1e-3}  # of a gradient, relative in norm


@pytest.fixture(autouse=True)
def one_at_a_time(tmp_path_factory):
    """Free memory is read by one of them: what another process takes meanwhile would be a leak to it."""
    with alone(common_folder(tmp_path_factory), "gpu"):
        yield


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


def test_a_captured_draw_moves_on_as_a_stream_does():
    cupy = gpu()
    key = Stream(5).key
    now, out = cupy.asarray(np.array([0, 0, 0, key], np.uint64)), cupy.empty(1001, np.float32)
    step.UNIFORM(now, 0, 0, out, out.size)  # compiled before the capture
    one = cupy.ones(1, np.float32)
    step.tally([one, one, one], [[]])
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        step.UNIFORM(now, 0, 0, out, out.size)
        step.tally([one, one, one], [[]], images=32, rows=now.reshape(1, 4), blocks=[step.uniform_blocks(out.size)])
        graph = stream.end_capture()
    for _ in range(3):
        graph.launch()
    s = Stream(5)
    draws = [s.uniform(1001) for _ in range(3)]
    assert out.get().tobytes() == draws[-1].tobytes()
    assert now.get().tolist() == [3 * 251, 3, 96, key]


@pytest.mark.parametrize("story", STORIES)
def test_a_graph_and_eager_steps_make_the_same_bits(story):
    config, options = STORIES[story]
    captured, measures = trained(config, **options)
    eager, also = trained(config, eager=True, **options)
    assert captured.on_gpu.why_eager == ""
    assert captured.on_gpu.graphs
    assert not eager.on_gpu.graphs
    assert same_state(captured, eager)
    assert measures == also


@pytest.mark.parametrize("story", PLAYERS)
def test_players_as_graphs_and_eager_steps_make_the_same_bits(story):
    test_players.test_graphs_and_eager_steps_make_the_same_bits_and_nearly_those_of_the_cpu(None, story)


@pytest.mark.parametrize("story", CONDITIONAL)
def test_conditions_are_told_of_the_right_images(story):
    test_graph.test_conditions_are_told_of_the_right_images(None, story)


@pytest.mark.parametrize("why", ["cuBLAS", "upload", "read"])
def test_what_a_graph_cannot_hold_stays_eager(why):
    @promised
    def objective(model, x, rng):
        terms = elbo(model, x, rng)
        rows = x.reshape(len(x), -1)
        factor = {
            "cuBLAS": lambda: (rows @ rows.T).mean() * 0 + 1,
            "upload": lambda: gpu().asarray(np.ones(3, np.float32)).mean(),
            "read": lambda: float(x.mean() * 0 + 1),
        }
        return terms._replace(loss=terms.loss * factor[why]())

    trainer, _ = trained({}, objective=objective)
    assert trainer.on_gpu.why_eager.startswith("the step cannot be captured as a CUDA graph: ")
    assert same_state(trainer, trained({}, eager=True, objective=objective)[0])


def test_memory_does_not_grow_over_a_thousand_steps():
    cupy = gpu()
    trainer, _ = trained({})
    before, free = cupy.get_default_memory_pool().total_bytes(), cupy.cuda.runtime.memGetInfo()[0]
    for _ in range(200):  # 4 replays and an eager step each
        trainer.epoch(IMAGES)
    assert trainer.on_gpu.graphs
    assert cupy.get_default_memory_pool().total_bytes() == before
    assert free - cupy.cuda.runtime.memGetInfo()[0] < 2**22  # 4 KiB a step would be more


def test_a_run_from_end_to_end(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "images.npz"
    np.savez(path, images=rng.integers(0, 256, (2000, 16, 16, 1), np.uint8), labels=np.arange(2000) % 4)

    def train(name, epochs, device):
        arguments = ["train", path, "--out", tmp_path / name, "--epochs", epochs, "--latent", 2, "--batch-size", 64, "--device", device]
        assert main([str(a) for a in arguments]) == 0

    def losses(name):
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [[line["train"]["loss"], line["test"]["loss"]] for line in lines]

    train("whole", 4, "cuda")
    train("half", 2, "cuda")
    train("cpu", 4, "cpu")
    assert main(["resume", str(tmp_path / "half"), "--epochs", "4"]) == 0
    assert losses("half") == losses("whole")
    np.testing.assert_allclose(losses("whole"), losses("cpu"), rtol=1e-3)
    for command in ("evaluate", "sample", "reconstruct", "interpolate"):
        assert main([command, str(tmp_path / "whole")]) == 0


def test_the_same_bits_every_run():
    x = gpu().asarray(np.random.default_rng(1).normal(size=(500, 3000)).astype(np.float32))
    runs = [KERNELS["bernoulli_log_prob"][0](x, x)[0].get().tobytes() for _ in range(5)]
    runs_of_products = [dense.gemm(x, x, transpose_b=True).get().tobytes() for _ in range(5)]
    assert len(set(runs)) == len(set(runs_of_products)) == 1


@pytest.mark.parametrize("story", CODERS)
def test_the_same_file_as_a_cpu_writes(story):
    make, likelihood = CODERS[story]
    x, there, here = images_of(likelihood), make().to("cuda"), make()
    file = file_of(there, x)
    assert file == file_of(here, x)
    assert (back(here, file) == x).all()
    assert (back(there, file) == x).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_of_a_diffusion_are_those_of_the_cpu(sampler):
    test_samples.test_samples_of_a_diffusion_are_those_of_the_cpu(None, sampler)


def test_memory_that_runs_out_is_one_sentence():
    with pytest.raises(UsageError, match=r"the GPU is out of memory: .* MiB are needed .* use a smaller batch"):
        launcher.empty((2**20, 2**20))
