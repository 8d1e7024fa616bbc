"""The judge is judged: mistakes planted in kernels must be found, and every barrier of the real ones must be missed when it is gone."""

import numpy as np
import pytest

from minivae.errors import ShapeError
from minivae.kernels.gpu import KERNELS, dense, launcher, step
from minivae.kernels.gpu.launcher import SOURCES, Kernel, source

from .host import DEVICES, HostDevice, HostError, host, needs_compiler, same_bits

pytestmark = needs_compiler
SHIFT = "__shared__ float s[64]; int t = threadIdx.x; s[t] = x[t]; __syncthreads(); y[t] = s[(t + 1) % 64];"


@pytest.fixture
def run():
    """run(body, n): a kernel of that body on x, y of n numbers and 64 threads, in both orders."""

    def planted(body, n=64, grid="(1,)"):
        kernel = Kernel("planted", "planted.cu", "float32[n] x, float32[n] y, int64 n", grid=grid, block="(64,)")
        text = f'extern "C" __global__ void planted(const float* x, float* y, long long n) {{ {body} }}'
        devices = [HostDevice(order, {"planted.cu": text}) for order in (False, True)]
        x = np.arange(n, dtype=np.float32)

        def once():
            y = launcher.empty((n,))
            kernel(x, y, n)
            return y

        return host(once, devices)

    yield planted
    Kernel.registry.pop("planted", None)


def test_a_barrier_orders_threads(run):
    assert run(SHIFT).tolist() == [*range(1, 64), 0]


def test_a_missing_barrier_is_seen(run):
    with pytest.raises(AssertionError, match="order of the threads"):
        run(SHIFT.replace("__syncthreads();", ""))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if (threadIdx.x < 40) __syncthreads(); y[threadIdx.x] = 0;", "24 threads returned while 40 wait"),
        ("if (threadIdx.x < 40) __syncthreads();\nelse __syncthreads();", "different barriers"),
        ("if (threadIdx.x < 32) __syncthreads(); else __syncwarp(); y[0] = 0; __syncthreads();", "different barriers|returned"),
        ("if (threadIdx.x % 32 == 3) __syncthreads(); else __syncwarp();", "some threads wait for their warp"),
        ("if (threadIdx.x % 32 < 9) y[0] = __shfl_xor_sync(0xffffffffu, x[0], 1);", "23 threads returned while 9 wait"),
        ("y[threadIdx.x] = x[threadIdx.x + 1];", "reached outside"),
        ("y[threadIdx.x + 1] = x[threadIdx.x];", "reached outside"),
        ("y[threadIdx.x] = x[(int)threadIdx.x - 1];", "reached outside"),
        ("y[(int)threadIdx.x - 1] = x[threadIdx.x];", "reached outside"),
    ],
)
def test_planted_mistakes_are_found(run, body, message):
    with pytest.raises(HostError, match=message):
        run(body)


def test_what_a_small_grid_leaves_out_is_not_a_number(run):
    body = "int i = blockIdx.x * 64 + threadIdx.x; if (i < n) y[i] = x[i];"
    assert np.isnan(run(body, 100, "(1,)")[64:]).all()
    assert not np.isnan(run(body, 100, "(divide_up(n, 64),)")).any()


def test_shared_memory_holds_nothing_of_the_block_before(run):
    body = "__shared__ float s[64]; if (blockIdx.x == 0) s[threadIdx.x] = 1; else y[threadIdx.x] = s[threadIdx.x];"
    assert np.isnan(run(body, 64, "(2,)")).all()


def test_a_column_sum_may_follow_another(run):
    """No thread reads what another writes once the last barrier is passed: else the threads behind the first row would see a race."""
    text = source("columns.cu") + (
        'extern "C" __global__ void planted(const float* x, float* y, long long n) {'
        "    __shared__ float all[64]; int own = threadIdx.y * blockDim.x + threadIdx.x;"
        "    float first = column_sum(x[own], all, 8), second = column_sum(1, all, 8); y[own] = first + second; }"
    )
    kernel = Kernel("planted", "columns.cu", "float32[n] x, float32[n] y, int64 n", grid="(1,)", block="(8, 8)")
    devices = [HostDevice(order, {"columns.cu": text}) for order in (False, True)]

    def once():
        y = launcher.empty((64,))
        kernel(np.arange(64, dtype=np.float32), y, 64)
        return y

    assert host(once, devices)[:8].tolist() == [sum(range(column, 64, 8)) + 8 for column in range(8)]


def rows_of_a_block():
    x = np.random.default_rng(0).normal(size=(2, 1500)).astype(np.float32)
    return [KERNELS["softmax"][0](x)[0], KERNELS["logsumexp"][0](x, axis=-1)[0]]


def columns():
    rng = np.random.default_rng(1)
    x, g = rng.normal(size=(2, 40, 5)).astype(np.float32)
    gamma = np.ones(5, np.float32)
    (y, mean, var), saved = KERNELS["batch_norm"][0](x, gamma, gamma)
    return [y, mean, var, *KERNELS["batch_norm"][1]((g, mean, var), *saved)]


def products():
    rng = np.random.default_rng(2)
    return dense.gemm(*(rng.normal(size=(2, 48, 48)).astype(np.float32)))


def long_sums():
    rng = np.random.default_rng(5)
    x, w, g = (rng.normal(size=shape).astype(np.float32) for shape in ((1300, 2), (2, 3), (1300, 3)))
    return dense.dense_vjp(g, x, w, g, 0, (False, True, True))


def images():
    rng = np.random.default_rng(3)
    return KERNELS["conv2d"][0](rng.normal(size=(1, 6, 6, 3)).astype(np.float32), rng.normal(size=(3, 3, 3, 4)).astype(np.float32))[0]


def few_channels():
    rng = np.random.default_rng(4)
    x, w, g = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 32, 36, 2), (3, 3, 2, 5), (2, 30, 34, 5)))
    return KERNELS["conv2d"][1](g, *KERNELS["conv2d"][0](x, w)[1], (True, True))  # several groups of taps, several parts of the pixels


def optimizer():
    flat = [np.ones(300, np.float32) for _ in range(3)]
    step.adam(np.zeros(3, np.uint64), np.ones(1, np.float32), tuple(flat), [slice(0, 300)], [flat[0] * 2], (0.9, 0.999), 1e-8, 0.0)
    return flat


def tallied():
    g = [np.ones(300, np.float32), np.arange(1500, dtype=np.float32)]
    x = np.arange(300, dtype=np.float32)
    return step.tally([x[:1], x, x], [g], np.zeros(4), 8, np.zeros((1, 4), np.uint64), [1])


USES = [("common.cu", "rows.cu", rows_of_a_block), ("columns.cu", "columns.cu", columns), ("adam.cu", "adam.cu", optimizer)]
USES += [
    ("join.cu", "gemm.cu", long_sums),
    ("tile.cu", "gemm.cu", products),
    ("tile.cu", "conv.cu", images),
    ("fold.cu", "fold.cu", few_channels),
    ("few.cu", "few.cu", few_channels),
    ("tally.cu", "tally.cu", tallied),
]
BARRIER = "__syncthreads()"


def test_every_barrier_has_its_trial():
    assert {path.name for path in SOURCES.glob("*.cu") if BARRIER in path.read_text()} == {file for file, _, _ in USES}


BARRIERS = [(*use, i) for use in USES for i in range((SOURCES / use[0]).read_text().count(BARRIER))]


@pytest.mark.parametrize(("file", "driver", "work", "number"), BARRIERS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_barrier_taken_out_is_missed(tmp_path, file, driver, work, number):
    for path in SOURCES.glob("*.cu"):
        (tmp_path / path.name).write_text(path.read_text())
    before, *after = (SOURCES / file).read_text().split(BARRIER)
    (tmp_path / file).write_text(BARRIER.join([before, *after[:number]]) + "(void)0" + BARRIER.join(after[number:]))
    right = host(work)
    found = []
    for device in DEVICES:
        changed = HostDevice(device.backwards, {driver: source(driver, tmp_path)})
        try:
            found.append(not same_bits(host(work, [changed]), right))
        except (HostError, ShapeError):
            found.append(True)
    assert any(found)


def test_the_conv_module_and_the_dense_module_share_the_tile():
    assert source("conv.cu").count("struct Panel {") == source("gemm.cu").count("struct Panel {") == 1
