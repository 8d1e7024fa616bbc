"""The launcher: what does not fit a kernel's declaration is one sentence, and never reaches a device."""

import types

import numpy as np
import pytest

from minivae.errors import ShapeError, UsageError
from minivae.kernels.gpu import launcher
from minivae.kernels.gpu.launcher import CupyDevice, Device, Kernel, source


class Recorder(Device):
    """Takes NumPy arrays, and notes what would be launched."""

    array = np.ndarray

    def __init__(self):
        self.loaded, self.launches = [], []

    def load(self, kernel):
        self.loaded.append(kernel.name)
        return kernel.name

    def address(self, x):
        return x.ctypes.data

    def launch(self, function, grid, block, values):
        self.launches.append((function, grid, block, values))


class Pair:
    record = np.zeros(1, np.dtype([("a", np.int32)]))


@pytest.fixture
def device():
    recorder = Recorder()
    launcher.set_device(recorder)
    yield recorder
    launcher.set_device(None)


@pytest.fixture
def kernel():
    yield Kernel(
        "sample",
        "sample.cu",
        "float32[rows * columns] x, float32?[columns] bias, int64 rows, int32 columns, float32 scale, uint64 key, Pair pair",
        grid="(divide_up(rows, 8), columns)",
        block="(32, 8)",
        structures={"Pair": Pair.record.dtype},
    )
    Kernel.registry.pop("sample")


def good():
    return [np.zeros((5, 3), np.float32), np.zeros(3, np.float32), 5, 3, 0.5, 2**64 - 1, Pair()]


def test_arguments_arrive_as_the_driver_takes_them(device, kernel):
    arguments = good()
    kernel(*arguments)
    kernel(arguments[0], None, *arguments[2:])
    (_, grid, block, values), (_, _, _, without) = device.launches
    assert (grid, block) == ((1, 3), (32, 8))
    assert values[:2] == [arguments[0].ctypes.data, arguments[1].ctypes.data]
    assert without[1] == 0
    assert [type(v) for v in values[2:6]] == [np.int64, np.int32, np.float32, np.uint64]
    assert values[6] is Pair.record
    assert device.loaded == ["sample"]


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (0, np.zeros((5, 3)), "x is float64; need a contiguous numpy.ndarray of float32"),
        (0, np.zeros((3, 5), np.float32).T, "x is float32, not contiguous; need a contiguous"),
        (0, np.zeros((2, 3), np.float32), r"x has 6 elements; need rows \* columns = 15"),
        (0, [0.0] * 15, "x is list; need a contiguous"),
        (0, None, "x is None; need an array of float32"),
        (1, np.zeros(2, np.float32), "bias has 2 elements; need columns = 3"),
        (2, 2.5, "rows is 2.5; need a number that fits int64"),
        (2, True, "rows is True; need a number that fits int64"),
        (3, 2**31, "columns is 2147483648; need a number that fits int32"),
        (4, "half", "scale is 'half'; need a number that fits float32"),
        (5, -1, "key is -1; need a number that fits uint64"),
        (6, 1, "pair is int; need Pair"),
        (2, 2**40, "a grid .* of blocks .*; need at most"),
        (2, -8, "a grid .* of blocks"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(device, kernel, place, value, sentence):
    arguments = good()
    arguments[place] = value
    with pytest.raises(ShapeError, match=f"^kernel sample: {sentence}"):
        kernel(*arguments)
    assert device.launches == []


def test_too_few_and_too_many_arguments(device, kernel):
    with pytest.raises(ShapeError, match=r"kernel sample takes 7 arguments \(x, bias, rows, .*\); got 6"):
        kernel(*good()[:6])
    with pytest.raises(ShapeError, match="got 8"):
        kernel(*good(), 1)


def test_nothing_to_do_is_not_launched(device, kernel):
    kernel(np.zeros((0, 3), np.float32), None, 0, 3, 0.5, 0, Pair())
    assert device.launches == []


def test_a_block_of_too_many_threads_is_refused(device):
    large = Kernel("large", "sample.cu", "int64 n", grid="(1,)", block="(64, n)")
    Kernel.registry.pop("large")
    large(16)
    with pytest.raises(ShapeError, match=r"blocks \(64, 17\)"):
        large(17)


def test_a_declaration_that_cannot_be_read_is_refused():
    with pytest.raises(UsageError, match=r"declared as 'half\[n\] x'; need"):
        Kernel("unreadable", "sample.cu", "half[n] x, int64 n", grid="(1,)")


def test_includes_are_replaced_once(tmp_path):
    (tmp_path / "a.cu").write_text('#include "b.cu"\n#include "c.cu"\nA\n')
    (tmp_path / "b.cu").write_text('#include "c.cu"\nB\n')
    (tmp_path / "c.cu").write_text("C\n")
    assert source("a.cu", tmp_path).split() == ["C", "B", "A"]


class OutOfMemoryError(Exception):
    pass


def cupy_without_a_gpu(free):
    """As much of CuPy as CupyDevice touches: a module that compiles nothing, memory that runs out."""

    def empty(shape, dtype):
        if np.prod(shape) * 4 > free:
            raise OutOfMemoryError
        return np.empty(shape, dtype)

    class RawModule:
        built = []

        def __init__(self, code, options):
            self.built.append((code, options))

        def get_function(self, name):
            return lambda grid, block, values: self.built.append((name, grid, block, values))

    runtime = types.SimpleNamespace(memGetInfo=lambda: (free, 2**30))
    cuda = types.SimpleNamespace(memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError), runtime=runtime)
    return types.SimpleNamespace(ndarray=np.ndarray, empty=empty, RawModule=RawModule, cuda=cuda)


def test_memory_that_runs_out_is_one_sentence(monkeypatch):
    monkeypatch.setattr(launcher, "gpu", lambda: cupy_without_a_gpu(free=2**21))
    device = CupyDevice()
    assert device.empty((4, 4), np.float32).shape == (4, 4)
    with pytest.raises(UsageError, match=r"out of memory: 4 MiB are needed for \(1024, 1024\), 2 of 1024 MiB are free; use a smaller"):
        device.empty((1024, 1024), np.float32)


def test_a_source_is_compiled_once_for_all_of_its_kernels(monkeypatch):
    cupy = cupy_without_a_gpu(free=2**21)
    monkeypatch.setattr(launcher, "gpu", lambda: cupy)
    device = CupyDevice()
    first, second = (Kernel.registry[f"gemm64_{kind}_tf32"] for kind in ("nn", "nt"))
    function = device.load(first)
    device.load(second)
    assert [options for _, options in cupy.RawModule.built] == [("--std=c++17", "-DTF32")]
    device.launch(function, (1,), (256,), [0])
    assert cupy.RawModule.built[-1] == ("gemm64_nn_tf32", (1,), (256,), [0])
