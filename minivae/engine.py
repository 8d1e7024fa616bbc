"""Reverse-mode automatic differentiation: Op, gradients.

An Op maps arrays to an array (or to a tuple of arrays) and knows its vector-Jacobian product: from g = dL/d(output) it makes
dL/d(input) for every input.  An Op called on Tensors makes a Tensor that remembers how it was made; Tensors are numbered as they are
made, so that walking back from the loss in descending order meets every Tensor after all that were made from it.  No recursion, and no
state but the graph itself.

    x = Tensor([1.0, 2.0]);  loss = (x * x).sum();  gradients(loss, [x])  ->  [array([2., 4.])]
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter
from typing import Any

import numpy as np

from .backend import Array, backend_of, cpu_backend, one, xp
from .checks import check_parts, check_shape, look_of, refuse_edits
from .errors import MinivaeError, ShapeError, UsageError
from .tensor import OPS, Tensor, _made, stop_gradient

__all__ = [
    "Op",
    "Tensor",
    "constant_of",
    "effect",
    "gradients",
    "made_by",
    "makes",
    "no_grad",
    "runner",
    "stop_gradient",
    "unbroadcast",
    "with_grad",
]

FLOAT32 = np.dtype(np.float32)
ndarray, generic = np.ndarray, np.generic
_recording: ContextVar[bool] = ContextVar("recording", default=True)


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return function(*arguments, **options)


runner: ContextVar[Callable[..., Any]] = ContextVar("runner", default=_call)  # what runs a forward or a vjp: see capture.py

Kernel = tuple[Callable[..., Any], Callable[..., Any]]  # forward(*arrays, **options) -> value, saved;  vjp(g, *saved) -> gradients


class Op:
    """A differentiable function.  `numpy` is the reference (forward, vjp) and compulsory; `numba` and `cupy` are fast kernels with
    the same signatures, used for float32 arrays.

    forward(*arrays, *options) returns (value, saved); vjp(g, *saved) returns one gradient per array, None where there is none.
    A value that is a tuple makes several Tensors, and then g is a tuple too.  A vjp whose parts are costly takes a keyword
    `needs`, one bool per input, and may return None where it is False.  The engine undoes broadcasting.
    """

    registry: dict[str, Any] = OPS
    fills = True  # with zeros, where no gradient reaches one of several values

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
        try:
            value, saved = forward(*arrays, **options) if run is _call else run(forward, *arrays, **options)
        except MinivaeError:
            raise
        except ValueError as error:  # NumPy's, of shapes and axes
            shapes = ", ".join(f"{a.dtype} {a.shape}" if hasattr(a, "dtype") else repr(a) for a in arrays)
            told = "".join(f", {name}={value!r}" for name, value in options.items())
            raise ShapeError(f"{self.name}: {error}; it was given {shapes}{told}") from error
        if type(value) is not ndarray and isinstance(value, generic):
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


def _part(whole: Tensor, index: int) -> Tensor:
    """One output of an op with several.  The whole's data is their tuple, and its gradient a list, None where no part has one."""

    def vjp(g: Array, needs: Any = None) -> tuple[list[Array | None]]:
        return ([g if i == index else None for i in range(len(whole.data))],)

    return _made(whole.data[index], whole.op, vjp, (), (whole,) if whole.number else ())


def constant_of(function: Callable[..., Array], *arguments: Any) -> Tensor:
    """function(*arrays and options) as a constant: one-hot rows, an order, a draw.  It is part of a recorded step, as an op is."""
    return _made(runner.get()(function, *arguments), None, None, (), ())


class Composite:
    """Stands for the op of a Tensor that was computed of many: its name in messages."""

    takes_needs, fills = False, False

    def __init__(self, name: str):
        self.name = name


def made_by(name: str, value: Any, vjp: Callable[[Any], tuple], parents: tuple[Tensor, ...]) -> Any:
    """A Tensor with a gradient of its own making: vjp(g) gives one for each parent, and may call ops and `gradients`.

    A value that is a tuple makes several; g is a tuple then, with None for those that no gradient reaches."""
    tracked = _recording.get() and any(p.number for p in parents)
    tensor = _made(value, Composite(name), vjp, (), parents) if tracked else _made(value, None, None, (), ())
    return tensor if type(value) is not tuple else tuple([_part(tensor, i) for i in range(len(value))])


def effect(function: Callable[..., None]) -> Callable[..., None]:
    """Declares of a function that it changes arrays in place and makes nothing, as running moments do: a recorded step repeats it."""

    def declared(*arguments: Any) -> None:
        runner.get()(function, *arguments)

    function.effect = True  # type: ignore[attr-defined]
    return declared


def makes(ufunc: np.ufunc) -> Callable[[Callable], Callable]:
    """Declares of a function that ufunc(*arguments) is the one array it makes: a recorded step calls that, with the place to write to."""

    def declare(function: Callable) -> Callable:
        function.ufunc = ufunc  # type: ignore[attr-defined]
        return function

    return declare


@contextmanager
def with_grad() -> Iterator[None]:
    """Inside the block ops record again, inside of a no_grad() too: for a value that is a gradient."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


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
    keep = set(params)
    if cotangent is None:
        if loss.data.size != 1:
            raise ShapeError(f"gradients: the loss has shape {loss.shape}; reduce it to one number, or pass a cotangent of its shape")
        cotangent = one(loss.data) if loss not in keep else one(loss.data).copy()  # whose result may be edited
    elif cotangent.shape != loss.shape:
        raise ShapeError(f"gradients: the cotangent is {cotangent.shape}, the loss is {loss.shape}; need equal shapes")
    path, swept = _between(loss, keep)
    total: dict[Tensor, Any] = {loss: cotangent}  # dL/d(tensor) so far; a list for the whole of an op with several outputs
    run = runner.get()
    for tensor in swept:
        g = total[tensor] if tensor in keep else total.pop(tensor)
        if type(g) is list:
            whole = tensor.op.fills
            g = tuple([xp(part).zeros_like(part) if h is None and whole else h for h, part in zip(g, tensor.data, strict=True)])
        if tensor.held:
            refuse_edits(tensor)
        parents = tensor.parents
        if tensor.op.takes_needs:
            parts = run(tensor.vjp, g, *tensor.saved, needs=[p is not None and p in path for p in parents])
        elif run is _call:
            parts = tensor.vjp(g, *tensor.saved)
        else:
            parts = run(tensor.vjp, g, *tensor.saved)
        if type(parts) is not tuple or len(parts) != len(parents):
            check_parts(tensor, parts)
        for parent, part in zip(parents, parts, strict=False):  # options given by position have no gradient
            if part is None or parent is None or parent not in path:
                continue
            if type(part) is not list and getattr(part, "shape", None) != parent.data.shape:
                check_shape(tensor, parent, part)
                part = run(unbroadcast, part, parent.data.shape)
            total[parent] = run(_sum, total[parent], part) if parent in total else part
    return [_array(total[p], p.data) if p in total else run(_zeros, p.data) for p in params]


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


def _array(g: Any, like: Array) -> Array:
    """g, or the 0-d array of a NumPy scalar."""
    return xp(like).asarray(g) if isinstance(g, np.generic) else g


def _zeros(a: Array) -> Array:
    """The gradient of what the loss does not depend on; part of a recorded step, as others are."""
    return xp(a).zeros_like(a)


@makes(np.add)
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
