"""Arrays as text that a browser unpacks: base64 of whole numbers and a scale, or of float32."""

import base64
from typing import Any

import numpy as np

from ..errors import NonFiniteError

EXACT = 4096  # numbers at most that are kept as float32: biases, moments, the codes of a few images
STEPS = 32767  # of a 16-bit number, on each side of 0


def pack(a: np.ndarray, name: str) -> dict[str, Any]:
    """{"type", "shape", "scale", "base64"}: bytes as they are, few numbers as float32, many as 16 bits each.

    A number w of many is kept as round(w / scale), scale = max |w| / 32767, and so is off by at most max |w| / 65534.  In float16, which
    takes the same room, numbers near the largest are off by up to 16 times as much.  Little-endian.  Raises NonFiniteError.
    """
    a = np.asarray(a)
    if a.dtype == np.uint8:
        return packed("u1", a, 1.0)
    a = a.astype(np.float32)
    bad = int((~np.isfinite(a)).sum())
    if bad:
        raise NonFiniteError(
            f"{name} holds {bad} numbers of {a.size} that are not finite, and no picture can be made of them; use an earlier checkpoint"
        )
    if a.size <= EXACT:
        return packed("f4", a, 1.0)
    scale = float(abs(a).max()) / STEPS or 1.0
    return packed("i2", np.rint(a.astype(np.float64) / scale), scale)


def packed(kind: str, a: np.ndarray, scale: float) -> dict[str, Any]:
    data = np.ascontiguousarray(a, dtype=f"<{kind}").tobytes()
    return {"type": kind, "shape": list(a.shape), "scale": scale, "base64": base64.b64encode(data).decode("ascii")}
