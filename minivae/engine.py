"""Reverse-mode automatic differentiation: Tensor, Op, gradients.

An Op maps arrays to an array (or to a tuple of arrays) and knows its vector-Jacobian product: from g = dL/d(output) it makes
dL/d(input) for every input.  Calling an Op on Tensors records a Node; Nodes are numbered as they are made, so that walking back
from the loss in descending order meets every Node after all of its consumers.  No recursion, and no state but the graph itself.

    x = Tensor([1.0, 2.0]);  loss = (x * x).sum();  gradients(loss, [x])  ->  [array([2., 4.])]
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count
from typing import Any

import numpy as np

from .backend import Array, backend_of, xp
from .errors import ShapeError

FLOAT32 = np.dtype(np.float32)
_next_number = count().__next__
_recording: ContextVar[bool] = ContextVar("recording", default=True)

Kernel = tuple[Callable[..., Any], Callable[..., Any]]  # forward(*arrays, **options) -> value, saved;  vjp(g, *saved) -> gradients


class Node:
    """One application of an op: what went in (`parents`), what its vjp needs (`saved`).  A variable is a Node without an op."""

    __slots__ = ("number", "op", "outputs", "parents", "saved", "vjp")

    def __init__(self, op: "Op | None" = None, vjp: Any = None, saved: tuple = (), parents: tuple = ()):
        self.number = _next_number()
        self.op = op
        self.vjp = vjp
        self.saved = saved
        self.parents = parents
        self.outputs: tuple | None = None  # (shape, dtype) of each output when the op has several


def _method(name: str, swapped: bool = False) -> Callable[..., Any]:
    """A method of Tensor that calls the op of that name; the ops stand in a room above this one."""

    def method(*inputs: Any, **options: Any) -> Any:
        return Op.registry[name](*(inputs[::-1] if swapped else inputs), **options)

    return method


class Tensor:
    """An array and, unless it is a constant, the Node that made it.

    `Tensor(data)` makes a variable: gradients flow to it.  Raw arrays and numbers among an op's inputs are constants.
    Lists and integers become float32; float32, float64 and complex arrays are kept as they are, without a copy.
    """

    __slots__ = ("__weakref__", "data", "index", "node")
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
        self.node: Node | None = Node()
        self.index = 0

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
        made_by = "constant" if self.node is None else "variable" if self.node.op is None else self.node.op.name
        return f"Tensor({made_by}, shape={self.shape}, {self.dtype}):\n{self.data}"

    def __bool__(self) -> bool:
        raise ShapeError("the truth of a Tensor is ambiguous; compare its .data, or use where(condition, a, b)")


def constant(data: Array) -> Tensor:
    """A Tensor that no gradient flows to: the way to cut a graph."""
    tensor = Tensor.__new__(Tensor)
    tensor.data, tensor.node, tensor.index = data.data if isinstance(data, Tensor) else data, None, 0
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
        self.reference, self.fast = numpy, {"numba": numba, "cupy": cupy}
        self.only_reference = numba is None and cupy is None
        code = numpy[1].__code__
        self.takes_needs = "needs" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        Op.registry[name] = self

    def kernel(self, arrays: Sequence[Any]) -> Kernel:
        """The (forward, vjp) that serves these arrays: a fast one only if every array is float32."""
        first = None
        for a in arrays:
            if hasattr(a, "dtype"):
                if a.dtype != FLOAT32:
                    return self.reference
                if first is None and a.ndim:
                    first = a
        return self.reference if first is None else self.fast.get(backend_of(first)) or self.reference

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        arrays = [t.data if type(t) is Tensor else t for t in inputs]
        forward, vjp = self.reference if self.only_reference else self.kernel(arrays)
        value, saved = forward(*arrays, **options)
        node = None
        if _recording.get():
            parents = tuple([t if type(t) is Tensor and t.node is not None else None for t in inputs])
            if parents.count(None) < len(parents):
                node = Node(self, vjp, saved, parents)
                if type(value) is tuple:
                    node.outputs = tuple([(v.shape, v.dtype) for v in value])
        if type(value) is tuple:
            return tuple([_output(v, node, i) for i, v in enumerate(value)])
        return _output(value, node, 0)

    def __repr__(self) -> str:
        return f"Op({self.name})"


def _output(value: Array, node: Node | None, index: int) -> Tensor:
    tensor = Tensor.__new__(Tensor)
    tensor.data = np.asarray(value) if isinstance(value, np.generic) else value  # NumPy reduces to scalars, not to 0-d arrays
    tensor.node, tensor.index = node, index
    return tensor


@contextmanager
def no_graph() -> Iterator[None]:
    """Inside the block ops record nothing: evaluation costs no memory beyond its values."""
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def gradients(loss: Tensor, params: Sequence[Tensor], cotangent: Array | None = None) -> list[Array]:
    """[dL/dp for p in params], arrays shaped like the params; zeros where L does not depend on p.

    L is `loss` when that has one element; otherwise give a `cotangent` u of loss's shape, and L = <u, loss>.
    The graph is left as it was, so that it can be asked again for other params.  Any Tensor of the graph may be a param.
    """
    if loss.node is None:
        raise ShapeError("gradients: the loss depends on no variable; make it from Tensor(...) outside of no_graph()")
    if cotangent is None:
        if loss.size != 1:
            raise ShapeError(f"gradients: the loss has shape {loss.shape}; reduce it to one number, or pass a cotangent of its shape")
        cotangent = xp(loss.data).ones_like(loss.data)
    elif cotangent.shape != loss.shape:
        raise ShapeError(f"gradients: the cotangent is {cotangent.shape}, the loss is {loss.shape}; need equal shapes")
    total: dict[Node, Any] = {loss.node: cotangent}  # node -> dL/d(output); a list of them for an op with several outputs
    if loss.node.outputs is not None:
        total[loss.node] = [cotangent if i == loss.index else None for i in range(len(loss.node.outputs))]
    pending = [(-loss.node.number, loss.node)]  # a heap of the nodes in `total` whose vjp has not run, newest first
    keep = {p.node for p in params}
    while pending:
        node = heappop(pending)[1]
        if node.op is None:
            continue
        g = total[node] if node in keep else total.pop(node)
        if node.outputs is not None:
            module = xp(next(part for part in g if part is not None))
            g = tuple([module.zeros(*output) if part is None else part for part, output in zip(g, node.outputs, strict=True)])
        if node.op.takes_needs:
            parts = node.vjp(g, *node.saved, needs=tuple([p is not None for p in node.parents]))
        else:
            parts = node.vjp(g, *node.saved)
        for parent, part in zip(node.parents, parts, strict=False):  # options given by position have no gradient
            if parent is None or part is None:
                continue
            if part.shape != parent.data.shape:
                part = unbroadcast(part, parent.data.shape)
            source = parent.node
            assert source is not None
            if source not in total:
                total[source] = None if source.outputs is None else [None] * len(source.outputs)
                heappush(pending, (-source.number, source))
            if source.outputs is None:
                before = total[source]
                total[source] = part if before is None else before + part
            else:
                before = total[source][parent.index]
                total[source][parent.index] = part if before is None else before + part

    def result(p: Tensor) -> Array:
        g = total.get(p.node) if p.node is not None else None
        if isinstance(g, list):
            g = g[p.index]
        return xp(p.data).zeros_like(p.data) if g is None else xp(p.data).asarray(g)

    return [result(p) for p in params]


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """The adjoint of broadcasting `shape` to g.shape: sum over the axes that were added or stretched."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape)))) if g.ndim > len(shape) else g
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=stretched, keepdims=True) if stretched else g
