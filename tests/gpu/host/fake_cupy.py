"""As much of CuPy as minivae uses, on the CPU: NumPy does the arithmetic, cuda_host runs the kernels, and the rules are CuPy's.

What a GPU forbids is an error here: an array that goes to NumPy without `.get()`, arrays of both kinds in one expression, a read, an upload
or a matrix product while a stream captures.  What is captured does not run: it is noted with the addresses of its arrays, which hold no
reference, and runs when the graph is launched.
"""

import ctypes
import sys
import types
from contextlib import contextmanager

import numpy as np

from minivae.kernels.gpu import launcher
from minivae.kernels.gpu.launcher import Kernel, source

from . import memory
from .device import HostError, library
from .fake_array import Operation, allocated, call, filled, ndarray, raw, refuse_blas, wait
from .memory import Now

BLAS = {"matmul", "dot", "tensordot", "einsum", "vdot", "inner"}
NOT_IN_ALL = {"put_along_axis", "unstack", "astype"}  # functions that NumPy has, and CuPy 13, which setup.cfg allows, has not
PLAIN = {"result_type", "finfo", "iinfo", "dtype", "broadcast_shapes", "isscalar"}


class Function:
    """A function of NumPy, on arrays of the device."""

    def __init__(self, name, function):
        self.name, self.function = name, function

    def __call__(self, *arguments, **options):
        if self.name in BLAS:
            refuse_blas(self.name)
        return call(self.function, arguments, options)

    def at(self, a, index, b):
        call(lambda a, i, b: self.function.at(a, i, b), (a, index, b), {}, (1,), writes=True)


class Graph:
    def __init__(self):
        self.operations = []

    def launch(self, stream=None):
        wait("launch")
        for operation in self.operations:
            for held in operation.held:
                held.check(self)
        Now.replaying = True
        try:
            for operation in self.operations:
                operation.run()
        finally:
            Now.replaying = False


class Stream:
    entered = []
    ptr = property(id)
    is_capturing = staticmethod(lambda: Now.graph is not None)

    def __init__(self, non_blocking=False):
        self.non_blocking = non_blocking

    def __enter__(self):
        Stream.entered.append(self)
        return self

    def __exit__(self, *_):
        Stream.entered.pop()

    def begin_capture(self):
        assert self.non_blocking
        Now.graph = Graph()

    def end_capture(self):
        graph, Now.graph = Now.graph, None
        return graph

    def synchronize(self):
        wait("synchronize")


class RawModule:
    """Kernels of a source, run on the CPU at the addresses that they are given."""

    def __init__(self, code, options):
        defines = tuple(option[2:] for option in options if option.startswith("-D"))
        files = {k.file for k in Kernel.registry.values() if k.defines == defines and source(k.file) == code}
        self.file, self.defines, self.code, self.library = files.pop(), defines, code, None

    def get_function(self, name):
        self.library = self.library or library(self.file, self.defines, self.code)
        kernel, run = Kernel.registry[name], self.library[f"host_{name}"]
        return lambda grid, block, values: launch(kernel, run, grid, block, values)


def launch(kernel, run, grid, block, values):
    run.restype = ctypes.c_char_p
    held, addresses = [], []
    for p, value in zip(kernel.parameters, values, strict=True):
        held.append(value.copy() if isinstance(value, np.ndarray) else np.array(value, np.uint64 if p.length else p.dtype))
        if p.length:
            assert type(value) is int, f"{kernel.name}: {p.name} is {value!r}; the driver takes an address"
            addresses.append(value)
        elif held[-1].dtype.names and "at" in held[-1].dtype.names:
            addresses += [int(at) for at, n in zip(held[-1]["at"].flat, held[-1]["size"].flat, strict=True) if n]
    for address in addresses:
        if address:
            memory.checked(address)
    pointers = (ctypes.c_void_p * len(held))(*[value.ctypes.data for value in held])
    sizes = [(ctypes.c_uint * 3)(*(*n, 1, 1)[:3]) for n in (grid, block)]

    def go(held=held):  # held: the values live as long as the operation
        found = run(*sizes, pointers, 0)
        if found:
            raise HostError(f"{kernel.name}: {found.decode()}")

    go.__name__ = kernel.name
    Operation(go, addresses)


class Pinned:
    allocator = staticmethod(lambda size: None)


def asarray(x, dtype=None, order=None):
    if isinstance(x, ndarray):
        fits = (dtype is None or x.dtype == dtype) and (order != "C" or x.flags.c_contiguous)
        return x if fits else call(lambda a: np.array(a, dtype=dtype, order=order or "K"), (x,), {})
    host = np.array(x, dtype=dtype)
    if not host.ndim:
        return call(lambda: np.array(host), (), {})
    Pinned.allocator(host.nbytes)
    wait("an upload")
    return filled(host)


def zeros_like(x, dtype=None):
    return call(lambda: np.zeros(x.shape, dtype or x.dtype), (), {})


def set_pinned_memory_allocator(allocator):
    Pinned.allocator = staticmethod(allocator)


class Module(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__") or name in NOT_IN_ALL:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        found = getattr(np, name)
        if name in PLAIN:
            return lambda *arguments: found(*[raw(x) for x in arguments])
        return Function(name, found) if callable(found) and not isinstance(found, type) else found


def module():
    """A module to stand in sys.modules["cupy"]."""
    cupy = Module("cupy")
    cupy.ndarray, cupy.RawModule, cupy.asarray, cupy.array, cupy.zeros_like = ndarray, RawModule, asarray, asarray, zeros_like
    cupy.empty = lambda shape, dtype=float: allocated(shape, dtype)
    pinned = types.SimpleNamespace(malloc=lambda size: None)
    cupy.get_default_pinned_memory_pool = lambda: pinned
    cupy.get_default_memory_pool = lambda: memory.default_pool
    runtime = types.SimpleNamespace(
        memGetInfo=lambda: (2**20, 2**30),
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda i: {"name": b"a GPU that is none", "totalGlobalMem": 2**30},
    )
    cupy.cuda = types.SimpleNamespace(
        is_available=lambda: True,
        Device=lambda: types.SimpleNamespace(synchronize=lambda: wait("synchronize")),
        runtime=runtime,
        memory=memory,
        Memory=memory.Memory,
        MemoryPointer=memory.MemoryPointer,
        MemoryPool=memory.MemoryPool,
        Stream=Stream,
        get_current_stream=lambda: Stream.entered[-1] if Stream.entered else types.SimpleNamespace(ptr=0, is_capturing=Stream.is_capturing),
        using_allocator=memory.using_allocator,
        set_pinned_memory_allocator=set_pinned_memory_allocator,
    )
    return cupy


def replayed(cupy, work):
    """work() captured as a graph, which is then launched; what it returned."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            found = work()
        finally:
            graph = stream.end_capture()
        graph.launch()
    return found


@contextmanager
def installed(monkeypatch):
    """CuPy is this module inside, for whoever imports it."""
    monkeypatch.setitem(sys.modules, "cupy", module())
    launcher.set_device(None)
    memory.default_pool.free_all_blocks()
    try:
        yield sys.modules["cupy"]
    finally:
        launcher.set_device(None)
        Now.graph, Now.limit, Now.replaying = None, None, False
