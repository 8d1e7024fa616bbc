"""Copies between the CPU and the device that is none, counted."""

from .fake_array import ndarray
from .fake_cupy import Pinned


class Transfers:
    """down: arrays that went to the CPU;  up: arrays that came from it."""

    def __init__(self, monkeypatch):
        self.down = self.up = 0
        get, put = ndarray.get, ndarray.set

        def down(array):
            self.down += 1
            return get(array)

        def up(array, host):
            self.up += 1
            put(array, host)

        def allocate(size):  # of what CuPy copies through
            self.up += 1

        monkeypatch.setattr(ndarray, "get", down)
        monkeypatch.setattr(ndarray, "set", up)
        monkeypatch.setattr(Pinned, "allocator", staticmethod(allocate))

    def during(self, work):
        """(down, up) of work()"""
        before = self.down, self.up
        work()
        return self.down - before[0], self.up - before[1]
