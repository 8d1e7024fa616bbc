"""What the engine checks in a backward sweep: what a vjp returned, and that nobody has changed the arrays that it reads."""

from typing import Any
from zlib import adler32

import numpy as np

from .errors import ShapeError, UsageError
from .tensor import Tensor

FEW = 64  # numbers that are copied faster than they are summed
SAMPLE = 1024  # numbers of a large array that are looked at


def look_of(a: np.ndarray) -> int | bytes:
    """A checksum, or the very numbers if they are few: of all numbers of a small array, of about a thousand spread evenly over a large one.
    An array that was filled anew, or stepped by an optimizer, has another; one element that was changed among a million may not."""
    if a.size <= FEW:
        return a.tobytes()
    if a.size > SAMPLE:
        a = a.reshape(-1)[:: a.size // SAMPLE] if a.flags.c_contiguous else a[tuple([slice(None, None, -(-n // 32)) for n in a.shape])]
    try:
        return adler32(a)  # type: ignore[arg-type]
    except (ValueError, BufferError):  # it does not lie in one piece
        return adler32(a.tobytes())


def refuse_edits(tensor: Tensor) -> None:
    for a, look in tensor.held:
        if look_of(a) != look:
            raise UsageError(
                f"gradients: an array of shape {a.shape} that the op {tensor.op.name} took was changed since, and its gradient would be of "
                "the new numbers; ask for gradients before an optimizer steps or a buffer is filled anew, or pass a copy"
            )


def check_parts(tensor: Tensor, parts: Any) -> None:
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


def check_shape(tensor: Tensor, parent: Tensor, part: Any) -> None:
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
