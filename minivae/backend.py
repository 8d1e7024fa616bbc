"""Whose array is this, where does it live, and which kernels serve it.

Three backends: `numpy` runs every op's reference; `numba` (the default on a CPU) runs an op's compiled kernel where it has one and
the arrays are float32; `cupy` does the same on a GPU.  Other dtypes (float64 and complex, for checking) always run the reference.
CuPy is never imported unless somebody asks for a GPU.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np

from .errors import UsageError

Array = Any  # numpy.ndarray or cupy.ndarray: CuPy is optional, so the union cannot be written down
BACKENDS = ("numpy", "numba", "cupy")
PRECISIONS = ("fp32", "tf32")

_cpu_backend: ContextVar[str] = ContextVar("cpu_backend", default="numba")
cpu_backend = _cpu_backend.get  # "numba" or "numpy": what serves CPU arrays in this thread
_precision: ContextVar[str] = ContextVar("precision", default="fp32")
precision = _precision.get  # of the factors of products on a GPU, in this thread


def xp(x: Array) -> ModuleType:
    """The array module that owns x: numpy, or cupy when x lives on a GPU."""
    if isinstance(x, np.ndarray | np.generic | float | int | complex) or "cupy" not in sys.modules:
        return np
    cupy = sys.modules["cupy"]
    return cupy if isinstance(x, cupy.ndarray) else np


def backend_of(x: Array) -> str:
    """`"cupy"` for an array on a GPU, else the backend chosen for the CPU."""
    return _cpu_backend.get() if type(x) is np.ndarray or xp(x) is np else "cupy"


_ones: dict[Any, Array] = {}


def one(like: Array) -> Array:
    """Ones of the shape of a loss.  On a GPU always the same array: a vjp can see that it is 1, and a captured step need not make it."""
    if xp(like) is np:
        return np.ones(like.shape, like.dtype)
    key = getattr(getattr(like, "device", None), "id", 0), like.shape, like.dtype
    made = _ones.get(key)
    if made is None:
        made = xp(like).ones(like.shape, like.dtype)
        if not xp(like).cuda.get_current_stream().is_capturing():  # else it is 1 in replays alone
            _ones[key] = made
    return made


def set_backend(name: str) -> None:
    """Choose the backend of CPU arrays for this thread: `"numba"` (compiled kernels) or `"numpy"` (references)."""
    if name not in BACKENDS:
        raise UsageError(f"backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    if name == "cupy":
        gpu()
    else:
        _cpu_backend.set(name)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """`with use_backend("numpy"):` runs the references inside the block."""
    before = _cpu_backend.get()
    set_backend(name)
    try:
        yield
    finally:
        _cpu_backend.set(before)


def set_precision(name: str) -> None:
    """Choose how a GPU multiplies matrices and convolves, for this thread: `"fp32"` or `"tf32"`; see `use_precision`."""
    if name not in PRECISIONS:
        raise UsageError(f"precision {name!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if name == "tf32":
        try:
            gpu()
        except UsageError as error:
            raise UsageError(f"precision tf32 is that of a GPU's tensor cores, and a CPU has none; leave it at fp32 ({error})") from error
    _precision.set(name)


@contextmanager
def use_precision(name: str) -> Iterator[None]:
    """`with use_precision("tf32"):` lets a GPU's matrix products and convolutions inside the block run on its tensor cores.

    There each factor is rounded to TF32, 10 bits of fraction (a relative error of 2^-11 at most); products and sums stay float32.
    Gradients are then within 1e-3 of the exact ones, relative in norm, where `"fp32"`, the default, keeps 1e-5.  All else is float32 as
    before: activations, losses, the optimizer.  Raises UsageError where there is no GPU.
    """
    before = precision()
    set_precision(name)
    try:
        yield
    finally:
        _precision.set(before)


def gpu() -> ModuleType:
    """The cupy module, or one sentence that says why there is no GPU."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise UsageError(
            "no GPU backend: CuPy is not installed; install minivae[gpu-cuda12] or minivae[gpu-cuda13], or use --device cpu"
        ) from error
    if not cupy.cuda.is_available():
        raise UsageError("no GPU found: CuPy is installed but no CUDA device or driver answers; use --device cpu")
    return cupy


def to_device(x: Array, device: str) -> Array:
    """x on `"cpu"` or `"cuda"`; no copy when it is there already."""
    if device == "cpu":
        return x if xp(x) is np else x.get()
    if device == "cuda":
        return gpu().asarray(x)
    raise UsageError(f"device {device!r} is unknown; choose cpu or cuda")
