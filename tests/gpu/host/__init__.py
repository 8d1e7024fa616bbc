"""The CUDA sources on the CPU: threads first to last and arrays that end at a forbidden page, then last to first and begin there."""

from contextlib import contextmanager

import pytest

from minivae import backend
from minivae.kernels.gpu import launcher

from .device import HostDevice, HostError, has_compiler

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="g++ is not installed: the CUDA sources cannot be run on the CPU")
DEVICES = [HostDevice(backwards=False), HostDevice(backwards=True)]


def host(f, devices=DEVICES):
    """f(), once with each device; the results must be the same bit for bit, for then the order of threads does not matter."""
    results = []
    try:
        for device in devices:
            launcher.set_device(device)
            results.append(f())
    finally:
        launcher.set_device(None)
    for other in results[1:]:
        assert same_bits(results[0], other), "the order of the threads changes the result"
    return results[0]


@contextmanager
def at_precision(name):
    """use_precision, without a GPU."""
    token = backend._precision.set(name)
    try:
        yield
    finally:
        backend._precision.reset(token)


def same_bits(a, b):
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(same_bits(x, y) for x, y in zip(a, b, strict=True))
    if not hasattr(a, "dtype"):
        return a == b
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


__all__ = ["DEVICES", "HostDevice", "HostError", "at_precision", "has_compiler", "host", "needs_compiler", "same_bits"]
