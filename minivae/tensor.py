"""Tensor: an array that remembers how it was made.

Its operators and methods are the library's ops, by name; the ops stand in a room above this one and enter themselves in OPS.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from .backend import Array, xp
from .errors import ShapeError, UsageError

OPS: dict[str, Any] = {}  # every Op, by its name
_next_number = count(1).__next__


def _method(name: str) -> Callable[..., Any]:
    """A method of Tensor that calls the op of that name; the ops stand in a room above this one."""

    def method(*inputs: Any, **options: Any) -> Any:
        return OPS[name](*inputs, **options)

    method.__name__ = name
    method.__doc__ = f"ops.{name} of this tensor; see there."
    return method


def _operator(name: str, swapped: bool = False) -> Callable[[Any, Any], Any]:
    """The same of two inputs, in a loop of small ops a tenth faster."""

    def operator(self: Any, other: Any) -> Any:
        return OPS[name](other, self) if swapped else OPS[name](self, other)

    operator.__name__ = name
    operator.__doc__ = f"ops.{name} of this tensor and another; see there."
    return operator


def _comparison(name: str) -> Callable[[Any, Any], Any]:
    """An array of bools, which has no gradient."""

    def compare(self: Any, other: Any) -> Any:
        return getattr(self.data, name)(other.data if isinstance(other, Tensor) else other)

    return compare


class Tensor:
    """An array and, unless it is a constant or a variable, how it was made: `vjp(g, *saved)` is dL/d(parents), of an `op`.

    `Tensor(data)` makes a variable: gradients flow to it.  Raw arrays and numbers among an op's inputs are constants.
    Lists and integers become float32; float32, float64 and complex arrays are kept as they are, without a copy.
    """

    __slots__ = ("__weakref__", "data", "held", "number", "op", "parents", "saved", "vjp")
    __array_priority__ = 100  # array + Tensor goes to Tensor.__radd__
    __array_ufunc__ = None

    def __init__(self, data: Any):
        if isinstance(data, Tensor):
            raise ShapeError("Tensor(data): data is a Tensor already; pass its .data for a new variable")
        chosen = hasattr(data, "dtype")  # an array's float64 was somebody's choice, a list's is NumPy's
        if not chosen or isinstance(data, np.generic):
            try:
                data = np.asarray(data)
            except ValueError as error:
                raise ShapeError("Tensor(data): the lists are ragged; need float32, float64 or complex numbers in equal rows") from error
        if data.dtype.kind in "biu" or (data.dtype.kind == "f" and not chosen):
            data = data.astype(np.float32)
        elif data.dtype.kind not in "fc":
            raise ShapeError(f"Tensor(data): dtype {data.dtype} holds no numbers; need float32, float64 or complex")
        self.data: Array = data
        self.number: int = _next_number()  # 0 for a constant
        self.op: Any = None  # an Op
        self.vjp: Any = None
        self.saved: tuple = ()
        self.parents: tuple[Tensor | None, ...] = ()  # None where an input was a constant
        self.held: tuple = ()  # saved arrays that others hold too, and what they looked like

    __add__ = _operator("add")
    __radd__ = _operator("add", swapped=True)
    __sub__ = _operator("subtract")
    __rsub__ = _operator("subtract", swapped=True)
    __mul__ = _operator("multiply")
    __rmul__ = _operator("multiply", swapped=True)
    __truediv__ = _operator("divide")
    __rtruediv__ = _operator("divide", swapped=True)
    __matmul__ = _operator("matmul")
    __rmatmul__ = _operator("matmul", swapped=True)
    __neg__ = _method("negative")
    __pow__ = _operator("power")
    __getitem__ = _operator("getitem")
    sum = _method("sum")
    mean = _method("mean")
    max = _method("max")
    min = _method("min")
    __abs__ = _method("absolute")
    __rpow__ = _operator("power", swapped=True)
    exp = _method("exp")
    expm1 = _method("expm1")
    log = _method("log")
    log1p = _method("log1p")
    sqrt = _method("sqrt")
    square = _method("square")
    abs = _method("absolute")
    tanh = _method("tanh")
    sigmoid = _method("sigmoid")
    relu = _method("relu")
    softplus = _method("softplus")
    softmax = _method("softmax")
    log_softmax = _method("log_softmax")
    logsumexp = _method("logsumexp")
    maximum = _method("maximum")
    minimum = _method("minimum")
    __lt__ = _comparison("__lt__")
    __le__ = _comparison("__le__")
    __gt__ = _comparison("__gt__")
    __ge__ = _comparison("__ge__")
    __eq__ = _comparison("__eq__")
    __ne__ = _comparison("__ne__")
    __hash__ = object.__hash__  # a tensor is itself, in a set or as a key

    def reshape(self, *shape: Any) -> "Tensor":
        """x.reshape(3, -1) or x.reshape((3, -1))"""
        return OPS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: int) -> "Tensor":
        """x.transpose() reverses the axes; x.transpose(0, 2, 1) orders them."""
        return OPS["transpose"](self, axes or None)

    T = property(transpose)
    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)

    def __len__(self) -> int:
        return len(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def item(self) -> float:
        """The value of a one-element tensor as a Python number."""
        return self.data.item()

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array, copied from the GPU if it lives there."""
        return self.data if xp(self.data) is np else self.data.get()

    def __repr__(self) -> str:
        made_by = self.op.name if self.op else "variable" if self.number else "constant"
        return f"Tensor({made_by}, shape={self.shape}, {self.dtype}):\n{self.data}"

    def __format__(self, spec: str) -> str:
        """f"{loss:.2f}", of one number."""
        if not spec:
            return str(self)
        if self.size != 1:
            raise ShapeError(f"a tensor of shape {self.shape} has no one number to print as {spec!r}; reduce it, or print its .data")
        return format(self.item(), spec)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        if self.number:
            raise UsageError("a NumPy function of a Tensor would lose its gradient; use ops or a method of it, or pass .numpy()")
        return np.array(self.numpy(), dtype, copy=copy)

    def __bool__(self) -> bool:
        raise ShapeError("the truth of a Tensor is ambiguous; compare its .data, or use where(condition, a, b)")


def stop_gradient(data: Array) -> Tensor:
    """A Tensor that no gradient flows to: the way to cut a graph."""
    return _made(data.data if isinstance(data, Tensor) else data, None, None, (), ())


def _made(data: Any, op: Any, vjp: Any, saved: tuple, parents: tuple) -> Tensor:
    tensor = Tensor.__new__(Tensor)
    tensor.data = data
    tensor.number = _next_number() if parents else 0
    tensor.op = op
    tensor.vjp = vjp
    tensor.saved = saved
    tensor.parents = parents
    tensor.held = ()
    return tensor
