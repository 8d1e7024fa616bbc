"""Reverse-mode automatic differentiation: Tensor, Op, gradients.

An Op maps arrays to an array (or to a tuple of arrays) and knows its vector-Jacobian product: from g = dL/d(output) it makes
dL/d(input) for every input.  An Op called on Tensors makes a Tensor that remembers how it was made; Tensors are numbered as they are
made, so that walking back from the loss in descending order meets every Tensor after all that were made from it.  No recursion, and no
state but the graph itself.

    x = Tensor([1.0, 2.0]);  loss = (x * x).sum();  gradients(loss, [x])  ->  [array([2., 4.])]
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from operator import attrgetter
from typing import Any
from zlib import adler32

import numpy as np

from .backend import Array, backend_of, cpu_backend, xp
from .errors import ShapeError, UsageError

FLOAT32 = np.dtype(np.float32)
ndarray = np.ndarray
_next_number = count(1).__next__
_recording: ContextVar[bool] = ContextVar("recording", default=True)


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return function(*arguments, **options)


runner: ContextVar[Callable[..., Any]] = ContextVar("runner", default=_call)  # what runs a forward or a vjp: see capture.py

Kernel = tuple[Callable[..., Any], Callable[..., Any]]  # forward(*arrays, **options) -> value, saved;  vjp(g, *saved) -> gradients


def _method(name: str, swapped: bool = False) -> Callable[..., Any]:
    """A method of Tensor that calls the op of that name; the ops stand in a room above this one."""

    def method(*inputs: Any, **options: Any) -> Any:
        return Op.registry[name](*(inputs[::-1] if swapped else inputs), **options)

    return method


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

    __add__ = _method("add")
    __radd__ = _method("add", swapped=True)
    __sub__ = _method("subtract")
    __rsub__ = _method("subtract", swapped=True)
    __mul__ = _method("multiply")
    __rmul__ = _method("multiply", swapped=True)
    __truediv__ = _method("divide")
    __rtruediv__ = _method("divide", swapped=True)
    __matmul__ = _method("matmul")
    __rmatmul__ = _method("matmul", swapped=True)
    __neg__ = _method("negative")
    __pow__ = _method("power")
    __getitem__ = _method("getitem")
    sum = _method("sum")
    mean = _method("mean")
    max = _method("max")
    min = _method("min")

    def reshape(self, *shape: Any) -> "Tensor":
        """x.reshape(3, -1) or x.reshape((3, -1))"""
        return Op.registry["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: int) -> "Tensor":
        """x.transpose() reverses the axes; x.transpose(0, 2, 1) orders them."""
        return Op.registry["transpose"](self, axes or None)

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

    def __bool__(self) -> bool:
        raise ShapeError("the truth of a Tensor is ambiguous; compare its .data, or use where(condition, a, b)")


def stop_gradient(data: Array) -> Tensor:
    """A Tensor that no gradient flows to: the way to cut a graph."""
    return _made(data.data if isinstance(data, Tensor) else data, None, None, (), ())


def _made(data: Any, op: "Op | None", vjp: Any, saved: tuple, parents: tuple) -> Tensor:
    tensor = Tensor.__new__(Tensor)
    tensor.data = data
    tensor.number = _next_number() if parents else 0
    tensor.op = op
    tensor.vjp = vjp
    tensor.saved = saved
    tensor.parents = parents
    tensor.held = ()
    return tensor


class Op:
    """A differentiable function.  `numpy` is the reference (forward, vjp) and compulsory; `numba` and `cupy` are fast kernels with
    the same signatures, used for float32 arrays.

    forward(*arrays, *options) returns (value, saved); vjp(g, *saved) returns one gradient per array, None where there is none.
    A value that is a tuple makes several Tensors, and then g is a tuple too.  A vjp whose parts are costly takes a keyword
    `needs`, one bool per input, and may return None where it is False.  The engine undoes broadcasting.
    """

    registry: dict[str, "Op"] = {}

    def __init__(self, name: str, numpy: Kernel, numba: Kernel | None = None, cupy: Kernel | None = None):
        self.name = name
        self.reference, self.numba, self.cupy = numpy, numba or numpy, cupy or numpy
        self.only_reference = numba is None and cupy is None
        # the same definition may run again, as a cell of a notebook does
        self.origin: tuple[str, str] = (numpy[0].__module__, numpy[0].__qualname__)
        known = Op.registry.get(name)
        if known is not None and known.origin != self.origin:
            raise UsageError(f"Op: the name {name!r} is taken, by {'.'.join(known.origin)}; choose another")
        code = numpy[1].__code__
        self.takes_needs = "needs" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        Op.registry[name] = self

    def kernel(self, arrays: Sequence[Any]) -> Kernel:
        """The (forward, vjp) that serves these arrays: a fast one only if every array is float32."""
        device = None
        for a in arrays:
            if type(a) is np.ndarray:
                if a.dtype is not FLOAT32 and a.dtype != FLOAT32:
                    return self.reference
                if a.shape:
                    device = "cpu" if device is None or device == "cpu" else self.refuse_two_devices()
            elif hasattr(a, "dtype"):
                if a.dtype != FLOAT32:
                    return self.reference
                own = "cupy" if backend_of(a) == "cupy" else "cpu"
                device = own if device is None or device == own else self.refuse_two_devices()
        if device == "cupy":
            return self.cupy
        return self.numba if device is not None and cpu_backend() == "numba" else self.reference

    def refuse_two_devices(self) -> str:
        raise ShapeError(f"{self.name}: some of its arrays are on the CPU, others on a GPU; bring them together with model.to or to_device")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        arrays: list[Any] = []
        outside: list[np.ndarray] = []  # arrays that no op made: raw inputs, and the values of leaves
        parents: list[Tensor | None] = []
        tracked = False
        for t in inputs:
            if type(t) is Tensor:
                arrays.append(a := t.data)
                if t.number:
                    parents.append(t)
                    tracked = True
                    if not t.parents and type(a) is ndarray:
                        outside.append(a)
                    continue
            else:
                arrays.append(t)
                if type(t) is ndarray:
                    outside.append(t)
            parents.append(None)
        forward, vjp = self.reference if self.only_reference else self.kernel(arrays)
        run = runner.get()
        value, saved = forward(*arrays, **options) if run is _call else run(forward, *arrays, **options)
        if isinstance(value, np.generic):
            value = np.asarray(value)  # NumPy reduces to scalars, not to 0-d arrays
        if tracked and _recording.get():
            tensor = _made(value, self, vjp, saved, tuple(parents))
            if outside and run is _call:  # who else holds an array may change it before its vjp reads it
                for a in outside:
                    for s in saved:
                        if s is a:
                            tensor.held += ((a, look_of(a)),)
                            break
        else:
            tensor = _made(value, None, None, (), ())
        return tensor if type(value) is not tuple else tuple([_part(tensor, i) for i in range(len(value))])

    def __repr__(self) -> str:
        return f"Op({self.name})"


SAMPLE = 1024  # numbers of a large array that are looked at


def look_of(a: np.ndarray) -> int:
    """A checksum: of all numbers of a small array, of about a thousand spread evenly over a large one.  An array that was filled anew, or
    stepped by an optimizer, has another; one element that was changed among a million may not."""
    if a.size > SAMPLE:
        a = a.reshape(-1)[:: a.size // SAMPLE] if a.flags.c_contiguous else a[tuple([slice(None, None, -(-n // 32)) for n in a.shape])]
    try:
        return adler32(a)  # type: ignore[arg-type]
    except (ValueError, BufferError):  # it does not lie in one piece
        return adler32(a.tobytes())


def _refuse_edits(tensor: Tensor) -> None:
    for a, look in tensor.held:
        if look_of(a) != look:
            raise UsageError(
                f"gradients: an array of shape {a.shape} that the op {tensor.op.name} took was changed since, and its gradient would be of "
                "the new numbers; ask for gradients before an optimizer steps or a buffer is filled anew, or pass a copy"
            )


def _part(whole: Tensor, index: int) -> Tensor:
    """One output of an op with several.  The whole's data is their tuple, and its gradient a list, None where no part has one."""

    def vjp(g: Array, needs: Any = None) -> tuple[list[Array | None]]:
        return ([g if i == index else None for i in range(len(whole.data))],)

    return _made(whole.data[index], whole.op, vjp, (), (whole,) if whole.number else ())


def constant_of(function: Callable[..., Array], *arguments: Any) -> Tensor:
    """function(*arrays and options) as a constant: one-hot rows, an order, a draw.  It is part of a recorded step, as an op is."""
    return _made(runner.get()(function, *arguments), None, None, (), ())


def effect(function: Callable[..., None]) -> Callable[..., None]:
    """Declares of a function that it changes arrays in place and makes nothing, as running moments do: a recorded step repeats it."""

    def declared(*arguments: Any) -> None:
        runner.get()(function, *arguments)

    function.effect = True  # type: ignore[attr-defined]
    return declared


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside the block ops record nothing: evaluation costs no memory beyond its values."""
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def gradients(loss: Tensor, params: Sequence[Tensor], cotangent: Array | None = None) -> list[Array]:
    """[dL/dp for p in params], arrays shaped like the params; zeros where L does not depend on p.

    L is `loss` when that has one element; otherwise give a `cotangent` u of loss's shape, and L = <u, loss>.
    Only what lies between L and the params is swept.  The graph is left as it was, so that it can be asked again for other params.  Any
    Tensor of the graph may be a param.
    """
    if not loss.number:
        raise ShapeError("gradients: the loss depends on no variable; make it from Tensor(...) outside of no_grad()")
    if cotangent is None:
        if loss.data.size != 1:
            raise ShapeError(f"gradients: the loss has shape {loss.shape}; reduce it to one number, or pass a cotangent of its shape")
        cotangent = xp(loss.data).ones(loss.data.shape, loss.data.dtype)
    elif cotangent.shape != loss.shape:
        raise ShapeError(f"gradients: the cotangent is {cotangent.shape}, the loss is {loss.shape}; need equal shapes")
    keep = set(params)
    path, swept = _between(loss, keep)
    total: dict[Tensor, Any] = {loss: cotangent}  # dL/d(tensor) so far; a list for the whole of an op with several outputs
    run = runner.get()
    for tensor in swept:
        g = total[tensor] if tensor in keep else total.pop(tensor)
        if type(g) is list:
            g = tuple([xp(part).zeros_like(part) if h is None else h for h, part in zip(g, tensor.data, strict=True)])
        if tensor.held:
            _refuse_edits(tensor)
        parents = tensor.parents
        if tensor.op.takes_needs:
            parts = run(tensor.vjp, g, *tensor.saved, needs=[p is not None and p in path for p in parents])
        else:
            parts = run(tensor.vjp, g, *tensor.saved)
        if type(parts) is not tuple or len(parts) != len(parents):
            _check_parts(tensor, parts)
        for parent, part in zip(parents, parts, strict=False):  # options given by position have no gradient
            if part is None or parent is None or parent not in path:
                continue
            if type(part) is not list and getattr(part, "shape", None) != parent.data.shape:
                _check_shape(tensor, parent, part)
                part = run(unbroadcast, part, parent.data.shape)
            total[parent] = run(_sum, total[parent], part) if parent in total else part
    return [_array(total[p], p.data) if p in total else xp(p.data).zeros_like(p.data) for p in params]


def _between(loss: Tensor, wanted: set[Tensor]) -> tuple[set[Tensor], list[Tensor]]:
    """What lies between the loss and the wanted tensors, both included; and of that what was made of other such, the newest first."""
    oldest = min([t.number for t in wanted], default=0)  # whatever was made before all of them depends on none
    found, seen = [loss], {loss}
    for tensor in found:  # which grows meanwhile
        for parent in tensor.parents:
            if parent is not None and parent not in seen and parent.number >= oldest:
                seen.add(parent)
                found.append(parent)
    found.sort(key=_number)
    path, swept = wanted & seen, []
    for tensor in found:
        for parent in tensor.parents:
            if parent in path:
                path.add(tensor)
                swept.append(tensor)
                break
    return path, swept[::-1]


_number = attrgetter("number")


def _check_parts(tensor: Tensor, parts: Any) -> None:
    """A vjp returns a tuple, with a gradient for each input that is an array; options given by position may follow those."""
    name = tensor.op.name
    if type(parts) is not tuple:
        raise ShapeError(f"the vjp of the op {name} returned {_told(parts)}; need a tuple of gradients, one for each array input: (gx,)")
    wanted = max(i + 1 for i, parent in enumerate(tensor.parents) if parent is not None)
    surplus = [part for part in parts[len(tensor.parents) :] if part is not None]  # None for an optional input that was left out
    if len(parts) < wanted or surplus:
        raise ShapeError(
            f"the vjp of the op {name} returned {len(parts)} gradients for {len(tensor.parents)} inputs; need one for each array input, "
            "None where there is none"
        )


def _check_shape(tensor: Tensor, parent: Tensor, part: Any) -> None:
    """A gradient has the shape of its input, or one that the input was broadcast to."""
    shape, name = parent.data.shape, tensor.op.name
    if not hasattr(part, "shape"):
        raise ShapeError(f"the vjp of the op {name} returned {_told(part)} for an input of shape {shape}; need an array of that shape")
    own = part.shape
    if len(own) < len(shape) or any(m not in (1, n) for m, n in zip(shape[::-1], own[::-1], strict=False)):
        raise ShapeError(
            f"the vjp of the op {name} returned a gradient of shape {own} for an input of shape {shape}; need the input's shape"
        )


def _told(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of shape {value.shape}" if hasattr(value, "shape") else "")


def _array(g: Any, like: Array) -> Array:
    """g, or the 0-d array of a NumPy scalar."""
    return xp(like).asarray(g) if isinstance(g, np.generic) else g


def _sum(a: Any, b: Any) -> Any:
    """a + b, in lists element by element; None stands for zero."""
    if type(a) is list:
        return [_sum(i, j) for i, j in zip(a, b, strict=True)]
    return b if a is None else a if b is None else a + b


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """The adjoint of broadcasting `shape` to g.shape: sum over the axes that were added or stretched."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape)))) if g.ndim > len(shape) else g
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=stretched, keepdims=True) if stretched else g
