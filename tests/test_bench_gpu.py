"""What benchmarks/gpu.py knows, without a GPU: its judge on the fake CuPy, its counts by hand, its clocks faked."""

import importlib
import json
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import minivae as mv
from minivae.backend import gpu
from minivae.cli.bench import Workload, flops, objective
from minivae.kernels.gpu import KERNELS, dense, exact, launcher, step

from .gpu.host import host, needs_compiler
from .gpu.host.fake_cupy import installed

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FAKES = """
import time

def sleeper(seconds):
    def factory(workload, init, x):
        return (lambda: time.sleep(seconds)), None
    return factory

quick, slow = sleeper(0.002), sleeper(0.006)

def hanging(workload, init, x):
    time.sleep(600)

def broken(workload, init, x):
    raise ValueError("no free lunch")
"""
SMALL = Workload("small", (8, 8, 1), 3, (5,), 2)
SMALL_CONV = Workload("small-conv", (8, 8, 1), 3, (5,), 2, ((3, 4, 2),))
PEAKS = {"bandwidth": 1e12, "fp32": 1e13, "tf32": 1e14}


@pytest.fixture
def module(monkeypatch):
    """Import a module of benchmarks/."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def check(module, monkeypatch):
    """Run the judge on the fake CuPy, at small sizes.  -> rows"""

    def run():
        with installed(monkeypatch):
            return list(module("gpu_check").check(small=True))

    return run


@needs_compiler
def test_every_kernel_is_checked_and_right(check, module):
    with module("gpu_kernels").watched() as calls:
        rows = check()
    assert {kernel.name for kernel, _ in calls} == set(launcher.Kernel.registry), "a kernel that no check launches"
    assert all(row["holds"] for row in rows), [row for row in rows if not row["holds"]]
    assert {layer.op for layer in module("gpu_check").LAYERS} == set(KERNELS)
    assert {row["bound"] for row in rows if row["precision"] in ("fp32", "tf32")} == {1e-5, 1e-3}
    assert max(row["worst"] for row in rows if row["precision"] == "tf32") > 1e-5  # it was TF32


@needs_compiler
def test_sums_of_integers_that_are_rounded_are_found(check, monkeypatch):
    product = exact.product

    def wrong(a, w, y):
        product(a, w, y)
        y[...] = y.astype(np.float32)

    monkeypatch.setattr(exact, "product", wrong)
    assert [row["what"] for row in check() if not row["holds"]] == ["a network in integers"]


@needs_compiler
@pytest.mark.parametrize("name", ["softplus", "dense"])
def test_a_kernel_that_is_a_little_wrong_is_found(check, monkeypatch, name):
    forward, vjp = KERNELS[name]

    def wrong(g, *saved, **needs):
        first, *rest = vjp(g, *saved, **needs)
        return (first * np.float32(1.00002), *rest)

    monkeypatch.setitem(KERNELS, name, (forward, wrong))
    assert {row["what"].split()[0] for row in check() if not row["holds"]} == {name}


@needs_compiler
def test_another_bit_in_a_uniform_is_found(check, monkeypatch):
    monkeypatch.setattr(step, "uniform", lambda key, counter, shape: gpu().asarray(mv.Stream(1).uniform(shape)))
    assert [row["what"] for row in check() if not row["holds"]] == ["1 uniforms", "7 uniforms", "1003 uniforms"]


def counted(module, run):
    """What the launches inside did: (name, operations, bytes)."""
    kernels = module("gpu_kernels")
    with kernels.watched() as calls:
        host(run, [host_device()])
    found = []
    for kernel, arguments in calls:
        given = dict(zip([p.name for p in kernel.parameters], arguments, strict=True))
        found.append((kernel.name, kernels.operations(kernel.name, given), kernels.traffic(kernel, given)))
    return found


def host_device():
    from .gpu.host import DEVICES

    return DEVICES[0]


@needs_compiler
def test_work_and_traffic_by_hand(module):
    x, w, b = np.ones((6, 7), np.float32), np.ones((7, 5), np.float32), np.ones(5, np.float32)
    assert counted(module, lambda: dense.gemm(x, w, bias=b)) == [("gemm64_nn_fp32", 2 * 6 * 7 * 5, 4 * (42 + 35 + 5 + 30))]
    # a sum of 300 is cut in 4 parts of 80: 4 tiles out, and in again
    x, w = np.ones((6, 300), np.float32), np.ones((300, 5), np.float32)
    parts = [("gemm64_nn_fp32", 2 * 6 * 300 * 5, 4 * (1800 + 1500 + 30 + 2 * 4 * 64 * 64))]
    assert counted(module, lambda: dense.gemm(x, w)) == parts
    a = np.ones((2, 3, 4), np.float32)
    assert counted(module, lambda: KERNELS["matmul"][0](a, a.swapaxes(1, 2).copy())) == [
        ("gemm_batch_nn_fp32", 2 * 2 * 36, 4 * (24 + 24 + 18))
    ]
    image, kernel = np.ones((2, 6, 6, 3), np.float32), np.ones((2, 2, 3, 5), np.float32)
    work = 2 * (2 * 3 * 3) * (2 * 2 * 3) * 5  # outputs, taps of each, channels
    (found,) = counted(module, lambda: KERNELS["conv2d"][0](image, kernel, stride=2))
    assert found == ("conv16_forward_fp32", work, 4 * (216 + 60 + 90))
    flat = [np.ones(10, np.float32) for _ in range(3)]
    now, rate = np.zeros(4, np.uint64), np.ones(1, np.float32)
    g = [np.ones(4, np.float32), np.ones(6, np.float32)]
    ((name, _, moved),) = counted(
        module, lambda: step.adam(now, rate, tuple(flat), [slice(0, 4), slice(4, 10)], g, (0.9, 0.999), 1e-8, 0.0)
    )
    assert name == "adam"
    assert moved - 4 * (2 * 30 + 10) <= 8 * 4 + 4 * 2  # p, m, v twice and g once; the counters and the rate beside


@needs_compiler
@pytest.mark.parametrize("w", [SMALL, SMALL_CONV], ids=lambda w: w.name)
def test_the_products_of_a_step_are_those_that_the_graph_names(module, monkeypatch, w):
    kernels = module("gpu_kernels")
    peer = module("gpu_minivae")
    init, x, eps = module("workloads").common(w)
    with installed(monkeypatch):
        step, loss = peer.eager(w, init, x)
        step()
        with kernels.watched() as calls:
            step()
        found = loss(eps)
    work = sum(kernels.operations(k.name, dict(zip([p.name for p in k.parameters], a, strict=True))) for k, a in calls)
    model = mv.VAE(w.image, mv.Stream(0), w.latent, "conv" if w.convs else "dense", w.hidden, [c[0] for c in w.convs] or None)
    x = x.reshape(len(x), *w.image)
    assert work == flops(objective(w, model, x, mv.Stream(1))) == kernels.work_of(w)[0]
    step, loss = module("minivae_peer").factory(w, init, x)
    assert found == pytest.approx(loss(eps), rel=1e-6)
    assert {name for name, _ in kernels.grouped(calls)} >= {"bernoulli_bound", "sample_and_kl"}


def test_the_least_that_a_step_must_move(module):
    work, moved = module("gpu_kernels").work_of(SMALL)
    parameters = 64 * 5 + 5 + 5 * 4 + 4 + 2 * 5 + 5 + 5 * 64 + 64
    # both hidden layers, the head, z, the logits (flat, then as images), and by the image KL, log p and their difference; the mean
    numbers = 3 * (5 + 4 + 2 + 5 + 64 + 3) + 1
    assert moved == 40 * parameters + 16 * numbers
    assert work == 2 * 3 * (2 * 64 * 5 + 3 * (5 * 4 + 2 * 5 + 5 * 64))
    floors = module("gpu_kernels").floor(work, moved, {"bandwidth": 1e9, "fp32": 1e6})
    assert floors == {"fp32": work / 1e6}
    assert module("gpu_kernels").floor(1.0, 100.0, PEAKS)["tf32"] == 1e-10


@needs_compiler
def test_shares_by_a_fake_clock(module):
    kernels = module("gpu_kernels")
    x, w = np.ones((64, 40), np.float32), np.ones((40, 64), np.float32)
    with kernels.watched() as calls:
        host(lambda: [dense.gemm(x, w), dense.gemm(x, w), KERNELS["relu"][0](x)], [host_device()])
    product, relu = kernels.measured(calls, lambda kernel, _: 1e-6, PEAKS | {"bandwidth": 1e11})
    assert (product["launches"], relu["launches"]) == (2, 1)
    assert product["gigaflop_per_second"] == pytest.approx(2 * 64 * 64 * 40 / 1e3)
    assert (product["bound"], relu["bound"]) == ("bandwidth", "bandwidth")
    assert product["share"] == pytest.approx(4 * (2 * 2560 + 4096) / 1e11 / 1e-6)
    assert relu["share"] == pytest.approx(2 * 4 * 2560 / 1e11 / 1e-6)
    (row,) = kernels.measured(calls[:2], lambda kernel, _: 1e-6, PEAKS)
    assert (row["bound"], row["share"]) == ("bandwidth", pytest.approx(4 * (2 * 2560 + 4096) / 1e12 / 1e-6))
    (row,) = kernels.measured(calls[:2], lambda kernel, _: 1e-6, PEAKS | {"fp32": 1e11})
    assert (row["bound"], row["share"]) == ("operations", pytest.approx(2 * 64 * 64 * 40 / 1e11 / 1e-6))
    (row,) = kernels.measured(calls[:2], lambda kernel, _: 1e-6, {"bandwidth": 1e12})  # a generation whose peak nobody wrote down
    assert row["bound"] == "bandwidth"
    json.dumps(row, allow_nan=False)


def test_events_time_the_middle_of_five_graphs(module):
    clock = iter([0.0, 7.0, 10.0, 13.0, 20.0, 22.0, 30.0, 34.0, 40.0, 45.0])  # ms: 7, 3, 2, 4, 5

    class Event:
        def record(self, stream):
            self.at = next(clock)

        def synchronize(self):
            pass

    launched = []

    class Stream:
        __enter__ = __exit__ = begin_capture = lambda self, *_: None

        def __init__(self, non_blocking):
            assert non_blocking

        def end_capture(self):
            return types.SimpleNamespace(launch=lambda stream: launched.append(stream))

    cuda = types.SimpleNamespace(
        Stream=Stream,
        Event=Event,
        Device=lambda: types.SimpleNamespace(synchronize=lambda: None),
        get_elapsed_time=lambda start, end: end.at - start.at,
    )
    assert module("gpu_kernels").by_events(types.SimpleNamespace(cuda=cuda), lambda: None, 20) == pytest.approx(4e-3 / 20)
    assert len(launched) == 6


def test_peaks_of_a_known_gpu(module):
    h200 = {"MemoryClockRate": 3_201_000, "GlobalMemoryBusWidth": 6144, "ClockRate": 1_980_000, "MultiProcessorCount": 132}
    peaks = module("gpu_kernels").peaks_of(h200, "90")
    assert peaks["bandwidth"] == pytest.approx(4.9e12, rel=0.01)
    assert peaks["fp32"] == pytest.approx(66.9e12, rel=0.01)
    assert set(module("gpu_kernels").peaks_of(h200, "999")) == {"bandwidth"}


def test_who_is_silent_for_too_long_is_stopped(module, monkeypatch, tmp_path):
    (tmp_path / "fakes.py").write_text(FAKES)
    monkeypatch.chdir(tmp_path)
    compare = module("compare")
    worker = compare.Worker("fakes:hanging", "tiny", types.SimpleNamespace(threads=1, tune_malloc=False, avx2=False, deadline=1.0))
    with pytest.raises(compare.Failed, match="no answer in 1 seconds"):
        worker.warm_up()
    assert worker.process.wait(10) < 0
    worker.close()


def test_ratios_are_of_the_same_precision(module):
    driver, row = module("gpu_tables"), module("report").Row
    rows = [row("mlp", "minivae-graph", [1e-5, 2e-5]), row("mlp", "minivae-graph-tf32", [4e-6, 4e-6])]
    rows += [row("mlp", "torch", [3e-5, 6e-5]), row("mlp", "torch-graph-tf32", [8e-6, 8e-6])]
    lines = driver.summary(rows, {"mlp": {"fp32": 5e-6, "tf32": 2e-6}}).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [line[4] for line in cells] == ["", "", "3.00x", "2.00x"]
    assert [line[6] for line in cells] == ["3.0", "2.0", "9.0", "4.0"]
    assert driver.summary([], {}) == ""
    alone = driver.summary(rows[2:3], {})  # where ours failed there is no ratio
    assert "x |" not in alone


def test_without_pytorch_there_is_a_sentence(module, monkeypatch):
    driver = module("gpu_sections")
    monkeypatch.setattr(driver.importlib.util, "find_spec", lambda name: None)
    contestants, sentence = driver.contestants_here()
    assert list(contestants) == ["minivae-graph", "minivae-graph-tf32", "minivae-eager"]
    assert "PyTorch is not installed" in sentence
    monkeypatch.setattr(driver.importlib.util, "find_spec", lambda name: object())
    assert driver.contestants_here() == (driver.CONTESTANTS, "")


def test_the_launcher_is_left_as_it_was(module):
    before = launcher.Kernel.__call__
    with pytest.raises(KeyError), module("gpu_kernels").watched():
        raise KeyError
    assert launcher.Kernel.__call__ is before


@needs_compiler
@pytest.mark.parametrize("w", [SMALL, Workload("small-iwae", (8, 8, 1), 3, (5,), 2, activation="tanh", samples=3)], ids=lambda w: w.name)
@pytest.mark.parametrize("kind", ["graph", "graph_tf32", "eager"])
def test_our_contestants_train_and_start_from_the_common_parameters(module, monkeypatch, w, kind):
    """On the fake CuPy, which captures and replays."""
    init, x, eps = module("workloads").common(w)
    with installed(monkeypatch):
        step, loss = getattr(module("gpu_minivae"), kind)(w, init, x)
        first = loss(eps) if loss else None
        for _ in range(3):
            step()
        step.sync()
        assert first == (loss(eps) if loss else None)
    assert (loss is None) == (kind == "graph_tf32")
    if first:
        _, on_the_cpu = module("minivae_peer").factory(w, init, x)
        assert first == pytest.approx(on_the_cpu(eps), rel=1e-6)


@needs_compiler
def test_what_a_step_should_take(module, monkeypatch):
    """Its launches are the nodes, its operations those of the products, and none is faster than what bounds it."""
    predicted, nodes = module("gpu_predicted"), importlib.import_module("tests.gpu.host.nodes")
    monkeypatch.setitem(predicted.ALL, "small", SMALL)
    with installed(monkeypatch) as cupy:
        rows = predicted.step_of(cupy, "small")
        ours, _ = nodes.captured_nodes(cupy, SMALL)
    assert [row["kernel"] for row in rows] == ours
    with mv.use_backend("numpy"):
        model = module("gpu_kernels").vae(SMALL, mv.Stream(0))
        loss = objective(SMALL, model, np.zeros((SMALL.batch, *SMALL.image), np.float32), mv.Stream(1))
    assert round(sum(row["megaflop"] for row in rows) * 1e6) == flops(loss)
    peaks = predicted.peaks_of(predicted.H200, "90")
    for row in rows:
        assert row["microseconds"] >= predicted.NODE + 1e12 * row["megabyte"] / peaks["bandwidth"] * (1 - 1e-12)
        assert row["microseconds"] >= predicted.NODE + 1e12 * row["megaflop"] / peaks["fp32"] * (1 - 1e-12)


def machine_code(code):
    """{kernel: its loops} of every product in float32, for sm_90."""
    try:
        code.in_wheels("*/lib/libnvrtc.so.*"), code.in_wheels("*/bin/nvdisasm")
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    variants = {(k.file, k.defines) for k in launcher.Kernel.registry.values() if k.file in code.FILES and "TF32" not in k.defines}
    with ThreadPoolExecutor(2) as pool:
        compiled = pool.map(lambda variant: code.disassembled(code.cubin(*variant, 90)), sorted(variants))
        return {name: code.rounds(lines) for kernels in compiled for name, lines in kernels.items()}


def test_multiply_adds_are_most_of_what_a_product_is_made_of(module):
    """At least 55% of each loop that reads four numbers at once, and within 2% of what predictions take for the share: another version of
    the compiler orders a few instructions otherwise."""
    shares = module("gpu_predicted").SHARES
    found = {name.removesuffix("_fp32"): loops for name, loops in machine_code(module("gpu_code")).items()}
    assert found.keys() == shares.keys()
    for name, loops in found.items():
        for four, expected in zip((True, False), shares[name], strict=True):
            least = min(products / total for total, products, at_once in loops if at_once == four)
            assert abs(least - expected) <= 0.02, (name, four, least)
            assert least >= 0.55 or not four, (name, least)


def test_only_innermost_loops_that_multiply_are_rounds(module):
    loop = [(16, "LDG.E.128", " R0"), (32, "FFMA", " R1"), (48, "FFMA.FTZ", " R1"), (64, "BRA", " 0x10")]
    outer = [(0, "MOV", " R0"), *loop, (80, "BRA", " 0x0"), (96, "MOV", " R0"), (112, "BRA", " 0x60")]
    assert module("gpu_code").rounds(outer) == [(4, 2, True)]


@needs_compiler
@pytest.mark.parametrize(
    ("sizes", "products"),
    [
        (((2, 8, 8, 1), (4, 4, 1, 32)), {"conv32_forward": 128 * 32 * 16, "fold_input": 256 * 16 * 32, "few_weights": 16 * 32 * 256}),
        (((2, 8, 8, 20), (4, 4, 20, 40)), {"conv64_forward": 64 * 64 * 320, "conv32_input": 128 * 32 * 4 * 4 * 40,
                                           "conv64_weights": 320 * 64 * 2 * 5 * 5}),
    ],
)  # fmt: skip
def test_the_work_of_tiles_by_hand(module, sizes, products):
    """Padding counts: an image of one channel would fill one of 32 columns."""
    predicted, kernels = module("gpu_predicted"), module("gpu_kernels")
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in sizes)

    def run():
        y, saved = KERNELS["conv2d"][0](x, w)
        return KERNELS["conv2d"][1](y, *saved, needs=(True, True))

    with kernels.watched() as calls:
        host(run, [host_device()])
    found = {}
    for kernel, arguments in calls:
        given = dict(zip([p.name for p in kernel.parameters], arguments, strict=True))
        found[kernel.name.removesuffix("_fp32")] = predicted.tiled(kernel.name.removesuffix("_fp32"), given)
    assert found == {name: 2.0 * work for name, work in products.items()}
