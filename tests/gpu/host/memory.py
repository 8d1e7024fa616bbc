"""Device memory on the CPU, for fake_cupy: cudaMalloc and cudaFree, CuPy's pools, and who holds which bytes when.

Bytes that nobody holds are 0xFF (NaN), and every address that a kernel or a graph is given is looked up: was it allocated, is it freed,
has it been given to somebody else since the graph was captured?
"""

import bisect
from contextlib import contextmanager

import numpy as np

SPACE = np.empty(2**29, np.uint8)  # addresses; only what is touched takes memory
ORIGIN = SPACE.ctypes.data
UNIT = 512


class OutOfMemoryError(MemoryError):
    __module__ = "cupy.cuda.memory"


class IllegalAddress(AssertionError):
    """What the driver would call cudaErrorIllegalAddress, or would not notice."""


class Now:
    """What the device is doing."""

    graph = None  # that is being captured
    replaying = False
    limit = None  # bytes; more is out of memory
    allocated = 0


regions = []  # (start, Memory), sorted: all that was ever allocated; addresses are not used twice


class Memory:
    """cudaMalloc until it is collected, then cudaFree.  `block` is what a pool has made of it."""

    def __init__(self, size):
        if Now.limit is not None and Now.allocated + size > Now.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: {Now.allocated:,} bytes)")
        self.ptr = regions[-1][0] + regions[-1][1].size if regions else ORIGIN
        self.size = -(-size // UNIT) * UNIT or UNIT
        assert self.ptr + self.size <= ORIGIN + SPACE.size, "the tests' device memory is full"
        self.region = Region(self.size)
        regions.append((self.ptr, self.region))
        Now.allocated += self.size

    def __del__(self):
        if hasattr(self, "region") and Now is not None:  # None when Python ends
            self.region.freed = True
            Now.allocated -= self.size


class Region:
    """What is known of some bytes: freed, or leased, how many times, and last by which capture."""

    def __init__(self, size):
        self.size, self.freed, self.free, self.lease, self.graph = size, False, False, 0, None


class MemoryPointer:
    def __init__(self, mem, offset):
        self.mem, self.ptr = mem, mem.ptr + offset


class Pooled:
    """A block on loan from a pool."""

    def __init__(self, pool, memory):
        self.pool, self.memory, self.ptr, self.size = pool, memory, memory.ptr, memory.size
        region = memory.region
        region.free, region.graph = False, Now.graph
        region.lease += 1

    def __del__(self):
        self.memory.region.free = True
        if Now is not None and not Now.replaying:  # a GPU's free touches nothing; here it shows who still reads
            bytes_at(self.ptr, self.size)[...] = 0xFF
        self.pool.free.setdefault(self.size, []).append(self.memory)


class MemoryPool:
    def __init__(self, allocator=None):
        self.allocator = allocator or (lambda size: MemoryPointer(Memory(size), 0))
        self.free = {}  # by size
        self.all = set()  # else a block and its memory, collected together, would be finalized in any order

    def malloc(self, size):
        rounded = -(-size // UNIT) * UNIT or UNIT
        if self.free.get(rounded):
            return MemoryPointer(Pooled(self, self.free[rounded].pop()), 0)
        try:
            memory = self.allocator(rounded).mem
        except OutOfMemoryError:
            self.free_all_blocks()
            memory = self.allocator(rounded).mem
        self.all.add(memory)
        return MemoryPointer(Pooled(self, memory), 0)

    def free_all_blocks(self):
        for memories in self.free.values():
            self.all.difference_update(memories)
        self.free.clear()


default_pool = MemoryPool()
_allocators = [default_pool.malloc]


@contextmanager
def using_allocator(allocator):
    _allocators.append(allocator)
    try:
        yield
    finally:
        _allocators.pop()


def malloc(size):
    return _allocators[-1](size).mem


def bytes_at(address, size):
    return SPACE[address - ORIGIN : address - ORIGIN + size]


def region_at(address):
    i = bisect.bisect_right(regions, address, key=lambda entry: entry[0]) - 1
    if i < 0 or address >= regions[i][0] + regions[i][1].size:
        raise IllegalAddress(f"address {address:#x} was never allocated")
    return regions[i][1]


def checked(address):
    """The region of an address that may be used now."""
    region = region_at(address)
    if region.freed or region.free:
        raise IllegalAddress(f"address {address:#x} is used after it was freed")
    return region


class Held:
    """An address in a graph: what it was when the graph was captured, and whether it is that still."""

    def __init__(self, address):
        self.address, self.region = address, checked(address)
        self.lease, self.graph = self.region.lease, self.region.graph

    def check(self, graph):
        region = self.region
        if region.freed:
            raise IllegalAddress(f"the graph uses address {self.address:#x}, which was freed")
        own = self.graph is graph and region.graph is graph  # the arena: blocks change hands within the capture, and none afterwards
        if not own and (region.lease != self.lease or region.free):
            raise IllegalAddress(f"the graph uses address {self.address:#x}, which belongs to somebody else by now")
