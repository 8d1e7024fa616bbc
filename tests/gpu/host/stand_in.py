"""As much of CuPy as the ops touch, with arrays in the memory of the CPU: what they do on a GPU, they can be seen doing here.

Its arrays are no NumPy arrays, and like CuPy's they do not mix with them.  `captured()` refuses what a CUDA graph cannot hold: a product by
cuBLAS (it raises), an upload (its source is gone when the graph is replayed), and whatever waits for the device to know a number or a size.
"""

import sys
import types
from contextlib import contextmanager

import numpy as np

from minivae.kernels.gpu import launcher

from .device import HostDevice

BLAS = {"matmul", "dot", "vdot", "inner", "tensordot", "einsum"}
WAITING = {"nonzero", "flatnonzero", "argwhere", "unique", "repeat"}
_capturing = False


class NotCapturable(AssertionError):
    """What a CUDA graph cannot hold."""


def refuse(what):
    if _capturing:
        raise NotCapturable(f"{what} while a step is captured")


@contextmanager
def captured():
    global _capturing
    _capturing = True
    try:
        yield
    finally:
        _capturing = False


def bare(x):
    """The NumPy arrays inside, for NumPy to work on."""
    if isinstance(x, ndarray):
        return x.numbers
    if isinstance(x, np.ndarray):
        raise TypeError("a NumPy array beside CuPy's: unsupported type <class 'numpy.ndarray'>")
    if isinstance(x, list | tuple):
        return type(x)([bare(part) for part in x])
    return x


def index(i):
    parts = [i] if not isinstance(i, tuple) else list(i)
    for k, part in enumerate(parts):
        if isinstance(part, np.ndarray | list):
            refuse("an index array goes to the device")
        elif isinstance(part, ndarray):
            if part.dtype == bool:
                refuse("a mask decides a size")
            parts[k] = part.numbers
    return tuple(parts) if isinstance(i, tuple) else parts[0]


def dressed(x):
    """As CuPy returns it: a number is an array too."""
    if isinstance(x, np.ndarray | np.generic):
        return ndarray(np.asarray(x))
    return type(x)([dressed(part) for part in x]) if isinstance(x, list | tuple) else x


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    def __init__(self, numbers):
        self.numbers = np.asarray(numbers)

    data = property(lambda self: types.SimpleNamespace(ptr=self.numbers.ctypes.data))

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if ufunc is np.matmul:
            refuse("cuBLAS, for @")
        if method == "at":
            return ufunc.at(bare(inputs[0]), index(inputs[1]), *bare(inputs[2:]))
        options = {key: bare(value) for key, value in options.items()}
        return dressed(getattr(ufunc, method)(*[bare(x) for x in inputs], **options))

    def __getattr__(self, name):
        found = getattr(self.numbers, name)
        if name in BLAS | WAITING | {"item", "tolist"}:
            refuse(name)
        if isinstance(found, np.ndarray):
            return ndarray(found)
        if not callable(found) or isinstance(found, type):
            return found
        return lambda *given, **options: dressed(found(*bare(given), **{key: bare(value) for key, value in options.items()}))

    def __getitem__(self, i):
        return dressed(self.numbers[index(i)])

    def __setitem__(self, i, value):
        self.numbers[index(i)] = bare(value)

    def __len__(self):
        return len(self.numbers)

    def get(self):
        refuse("a download")
        return self.numbers.copy()

    def __float__(self):
        refuse("float of an array")
        return float(self.numbers)

    __array_priority__ = 200

    def __int__(self):
        refuse("int of an array")
        return int(self.numbers)

    def __bool__(self):
        refuse("the truth of an array")
        return bool(self.numbers)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")


class Module(types.ModuleType):
    """`cupy`: NumPy's functions, on these arrays."""

    ndarray = ndarray

    def __init__(self):
        super().__init__("cupy")
        device = types.SimpleNamespace(synchronize=lambda: refuse("synchronize"))
        self.cuda = types.SimpleNamespace(is_available=lambda: True, Device=lambda: device)

    def asarray(self, x, dtype=None, order=None):
        if not isinstance(x, ndarray):
            if np.ndim(x):  # one number is written by a kernel
                refuse(f"an upload of {x!r:.40}")
            return ndarray(np.array(x, dtype, order=order))
        return ndarray(np.asarray(x.numbers, dtype, order=order))

    def concatenate(self, parts, axis=0):
        if len(parts) > 8:  # CuPy then sends a table of addresses
            refuse(f"concatenate of {len(parts)} arrays")
        return dressed(np.concatenate(bare(parts), axis=axis))

    def __getattr__(self, name):
        found = getattr(np, name)
        if isinstance(found, type | np.ufunc) or not callable(found):
            return found

        def function(*given, **options):
            if name in BLAS | WAITING | {"array"}:
                refuse(name)
            return dressed(found(*bare(given), **{key: bare(value) for key, value in options.items()}))

        return function


class StandInDevice(HostDevice):
    """Runs the kernels on such arrays."""

    array = ndarray

    def empty(self, shape, dtype):
        return ndarray(super().empty(shape, dtype))

    def address(self, x):
        return super().address(x.numbers)


DEVICE = StandInDevice()


@contextmanager
def stand_in(monkeypatch):
    """Inside, `--device cuda` means these arrays."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cupy", Module())
        launcher.set_device(DEVICE)
        try:
            yield
        finally:
            launcher.set_device(None)
