"""A CUDA graph of kernels that Python launched once, repeated without it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..backend import Array
from ..errors import UsageError
from ..kernels.gpu import launcher
from ..random import Stream, place

STREAMS = 64  # that the work may draw from


class Graph:
    """Work as a CUDA graph.  It holds raw addresses: of the arena, and of arrays that its maker keeps.

    rows      (STREAMS, 4) uint64 on the device: from there on its streams count, see kernels/gpu/tally.cu
    work      launches the kernels, given the graph; what it returns is kept as `results`
    streams   that the work draws from, in the order of their rows; of several graphs that share their rows, those of all
    """

    def __init__(self, cupy: Any, rows: Array, work: Callable[["Graph"], Any], streams: list[Stream] | None = None):
        self.cupy, self.rows, self.streams = cupy, rows, [] if streams is None else streams
        self.begun: dict[Stream, int] = {}  # counters where the step begins
        self.memory: list[Any] = []
        pool = cupy.cuda.MemoryPool(self.allocate)
        stream = cupy.cuda.Stream(non_blocking=True)
        token = place.set(self.place)
        try:
            with stream:  # allocated before: in the graph it would be filled with zeros at every launch
                launcher.arrived()
                stream.synchronize()  # the graph will be launched on another
            with cupy.cuda.using_allocator(pool.malloc), no_uploads(cupy), stream:
                stream.begin_capture()
                try:
                    self.results = work(self)
                except BaseException:
                    with suppress(Exception):  # it says again that the capture has failed
                        stream.end_capture()
                    raise
                self.graph = stream.end_capture()
        finally:
            place.reset(token)
            for drawn_from, begun in self.begun.items():
                drawn_from.counter = begun
        self.pool = pool
        self.stream = stream  # as long as it lives, no other has its number

    def allocate(self, size: int) -> Any:
        """Memory of the arena: from the device, and kept even when the pool, short of memory, would give it back."""
        cupy = self.cupy
        self.memory.append(cupy.cuda.Memory(size))
        return cupy.cuda.MemoryPointer(self.memory[-1], 0)

    def place(self, stream: Stream) -> tuple[int, int, Array]:
        """Key and counter of a stream, from its row on."""
        begun = self.begun.setdefault(stream, stream.counter)
        if stream not in self.streams:
            self.streams.append(stream)
        row = self.streams.index(stream)
        if row >= STREAMS:
            raise UsageError(f"it draws from more than {STREAMS} streams")
        return 0, stream.counter - begun, self.rows[row]

    def blocks(self) -> list[int]:
        """How many blocks of random numbers the work has drawn so far, of each row's stream."""
        return [stream.counter - self.begun[stream] if stream in self.begun else 0 for stream in self.streams]

    def launch(self) -> None:
        """Repeat the work, on the current stream."""
        self.graph.launch()


@contextmanager
def no_uploads(cupy: Any) -> Iterator[None]:
    """A copy from the CPU is refused inside: every replay would read its buffer again, long after that was given to somebody else."""

    def refuse(size: int) -> None:
        raise UsageError(f"it copies {size} bytes from the CPU to the GPU")

    cupy.cuda.set_pinned_memory_allocator(refuse)  # CuPy copies through pinned memory
    try:
        yield
    finally:
        cupy.cuda.set_pinned_memory_allocator(cupy.get_default_pinned_memory_pool().malloc)
