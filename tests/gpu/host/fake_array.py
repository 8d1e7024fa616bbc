"""Arrays of a device that is none, for fake_cupy: NumPy computes, on bytes of memory.py, and CuPy's rules are kept.

An operation runs at once, or is noted in the graph that a stream captures, with the addresses of its arrays, which hold no reference.
"""

import types

import numpy as np

from . import memory
from .memory import Held, Now


class Operation:
    """One thing that the device does: run() now, or, captured, at every launch.  node: whether the device has anything to do."""

    def __init__(self, run, addresses, node=True):
        self.run, self.held, self.node = run, [Held(address) for address in addresses if address] if Now.graph else [], node
        if Now.graph is not None:
            Now.graph.operations.append(self)
        else:
            run()


def wait(what):
    if Now.graph is not None:
        raise RuntimeError(f"{what}: the current stream is capturing, so synchronous API calls are disallowed")


def raw(x, index=False):
    """Arrays of the device as views of its memory."""
    if isinstance(x, ndarray):
        memory.checked(x.data.ptr)
        return x.view_
    if isinstance(x, np.ndarray) and not (index and Now.graph is None):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, tuple | list):
        return type(x)([raw(part, index) for part in x])
    return x


def arrays_in(tree):
    if isinstance(tree, ndarray):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [a for part in tree for a in arrays_in(part)] if isinstance(tree, tuple | list) else []


def call(function, arguments, options, index=(), writes=False):
    """function on the device.  Its result is a view of an argument, or new memory; or it writes to its first argument."""
    given = arrays_in((arguments, options))
    own = [raw(x, i in index) for i, x in enumerate(arguments)]
    named = {name: raw(x) for name, x in options.items()}
    results, new = None, []

    def run():
        nonlocal results
        with np.errstate(all="ignore"):
            results = function(*own, **named)
        for view, value in zip(new, leaves(results), strict=False):
            if view is not None:
                view[...] = value

    run.__name__ = getattr(function, "__name__", "?")
    captured, Now.graph = Now.graph, None
    before = [(a.view_, a.view_.copy()) for a in given if 0 not in a.strides and a.flags.writeable] if captured is not None else []
    try:
        run()  # while a stream captures, for the shapes alone
    finally:
        Now.graph = captured
        for view, numbers in before:
            view[...] = numbers
    made = rebuilt(results, lambda value: wrapped(value, given))
    owners = list(leaves(made, ndarray))
    fresh = [not any(part.block is a.block for a in given) for part in owners]
    if captured is not None:
        for part, is_new in zip(owners, fresh, strict=True):
            new.append(part.view_ if is_new else None)
            if is_new:
                memory.bytes_at(part.block.ptr, part.block.size)[...] = 0xFF
        made_any = any(is_new and part.size for part, is_new in zip(owners, fresh, strict=True))
        Operation(run, [a.data.ptr for a in (*given, *owners) if a.size], node=writes or made_any)
    return made


def leaves(tree, kind=(np.ndarray, np.generic)):
    if isinstance(tree, kind):
        return [tree]
    return [leaf for part in tree for leaf in leaves(part, kind)] if isinstance(tree, tuple | list) else []


def rebuilt(tree, function):
    if isinstance(tree, tuple | list):
        return type(tree)([rebuilt(part, function) for part in tree])
    return function(tree) if isinstance(tree, np.ndarray | np.generic) else tree


def wrapped(value, given):
    """A NumPy result as an array of the device: of the argument whose memory it shows, or in new memory."""
    if isinstance(value, np.ndarray) and value.size:
        at = value.ctypes.data if min(value.strides, default=0) >= 0 else np.lib.array_utils.byte_bounds(value)[0]
        for a in given:
            if a.block.ptr <= at < a.block.ptr + a.block.size:
                return ndarray.of(value, a.block, a if a.base is None else a.base)
    return filled(value)


def filled(value):
    made = allocated(np.shape(value), value.dtype, "F" if np.ndim(value) > 1 and value.flags.fnc else "C")
    made.view_[...] = value
    return made


def allocated(shape, dtype=float, order="C"):
    dtype = np.dtype(dtype)
    shape = (int(shape),) if np.ndim(shape) == 0 else tuple(int(n) for n in shape)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    block = memory.malloc(size)
    view = memory.bytes_at(block.ptr, size).view(dtype).reshape(shape, order=order)
    return ndarray.of(view, block)


def method(name, index=()):
    def run(self, *arguments, **options):
        def function(a, *rest, **named):
            return getattr(a, name)(*rest, **named)

        function.__name__ = name
        return call(function, (self, *arguments), options, index)

    return run


def operator(ufunc, swapped=False, in_place=False):
    def run(self, other):
        if not isinstance(other, ndarray | np.ndarray | np.generic | int | float | complex):
            return NotImplemented
        if ufunc is np.matmul:
            refuse_blas("matmul")
        if in_place:
            call(lambda a, b: ufunc(a, b, out=a, casting="same_kind"), (self, other), {}, writes=True)
            return self
        return call(ufunc, (other, self) if swapped else (self, other), {})

    return run


def refuse_blas(name):
    if Now.graph is not None:
        raise NotImplementedError(f"calling cuBLAS API during stream capture is currently unsupported ({name})")


class ndarray:
    """A view of device memory, and a share in its block."""

    __module__ = "cupy"
    __array_ufunc__ = None
    __hash__ = None

    @classmethod
    def of(cls, view, block, base=None):
        array = cls.__new__(cls)
        array.view_, array.block, array.base = view, block, base
        return array

    shape = property(lambda self: self.view_.shape)
    dtype = property(lambda self: self.view_.dtype)
    size = property(lambda self: self.view_.size)
    ndim = property(lambda self: self.view_.ndim)
    nbytes = property(lambda self: self.view_.nbytes)
    flags = property(lambda self: self.view_.flags)
    strides = property(lambda self: self.view_.strides)
    data = property(lambda self: types.SimpleNamespace(ptr=self.view_.ctypes.data if self.size else self.block.ptr))
    T = property(lambda self: self.transpose())
    real = property(lambda self: self if self.dtype.kind != "c" else call(lambda a: a.real, (self,), {}))

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly.")

    def __len__(self):
        return len(self.view_)

    def get(self):
        wait("get")
        return raw(self).copy(order="A")

    def set(self, host):
        wait("set")
        assert isinstance(host, np.ndarray)
        assert (host.shape, host.dtype) == (self.shape, self.dtype)
        raw(self)[...] = host

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def fill(self, value):
        call(lambda a, v: a.fill(v), (self, value), {}, writes=True)

    def astype(self, dtype, copy=True):
        if not copy and self.dtype == dtype:
            return self
        return call(lambda a: a.astype(dtype), (self,), {})

    def __getitem__(self, index):
        return call(lambda a, i: a[i], (self, index), {}, (1,))

    def __setitem__(self, index, value):
        def run(a, i, v):
            a[i] = v

        call(run, (self, index, value), {}, (1,), writes=True)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return f"array on the device {self.shape} {self.dtype}"


def reading(name, kind):
    def run(self):
        return kind(self.get().item())

    run.__name__ = name
    return run


for name, kind in (("__float__", float), ("__int__", int), ("__bool__", bool), ("__complex__", complex), ("__index__", int)):
    setattr(ndarray, name, reading(name, kind))
METHODS = (
    "reshape transpose sum mean max min argmax argmin squeeze swapaxes copy ravel view var std any all prod repeat cumsum __neg__ __abs__"
)
for name in [*METHODS.split(), "__invert__"]:
    setattr(ndarray, name, method(name))
OPERATORS = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power", "matmul": "matmul", "mod": "mod"}
OPERATORS |= {"floordiv": "floor_divide", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "left_shift"}
OPERATORS |= {"rshift": "right_shift"}
for name, ufunc in OPERATORS.items():
    setattr(ndarray, f"__{name}__", operator(getattr(np, ufunc)))
    setattr(ndarray, f"__r{name}__", operator(getattr(np, ufunc), swapped=True))
    setattr(ndarray, f"__i{name}__", operator(getattr(np, ufunc), in_place=True))
COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
for name, ufunc in COMPARISONS.items():
    setattr(ndarray, f"__{name}__", operator(getattr(np, ufunc)))
