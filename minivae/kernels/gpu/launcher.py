"""One way to launch a CUDA kernel: by its declaration, with every argument checked.

A `Kernel` says what its source in a .cu file expects: types, lengths, grid and block.  Calling it checks the arguments against that and
hands them to the current device: `CupyDevice`, which compiles the sources with NVRTC when a kernel is first used, or, in the tests, a
device that runs the same sources on the CPU.

    RELU = Kernel("relu", "elementwise.cu", "float32[n] xs, float32[n] ys, float32 parameter, int64 n", grid="spread(n)")
    RELU(x, y, 0.0, x.size)

A whole training step as one CUDA graph (training/graph.py).  Nothing here waits for the device, and no kernel allocates, so a step can be
captured:

1. Device memory holds what changes from step to step (tally.cu): rows of `step` = (counter of a stream, optimizer steps, first image of the
   batch, key of the stream), uint64, and the learning rate, float32.  Kernels that draw, gather or update take `step`; a draw's `counter`
   is then counted from the beginning of the step, a constant, and `tally` moves them on, behind whatever draws.
2. One eager step first: it compiles every kernel.  Eager steps launch the same kernels, so that a replay gives the same bits.
3. Capture on a non-blocking stream, allocating from a memory pool that lives as long as the graph: a graph holds raw addresses.  Structures
   (`Gradients`, `Geometry`) travel by value with their launch, and so are part of the graph.  No upload and no reduction by
   cuBLAS belongs inside.
4. Replay.  Between replays, `step` may be set (a new epoch's order, a loaded checkpoint) and the learning rate filled; a batch of
   another size runs eagerly.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...backend import Array, gpu
from ...errors import ShapeError, UsageError

SOURCES = Path(__file__).parent
TYPES = {name: np.dtype(name) for name in ("float32", "float64", "int32", "int64", "uint8", "uint32", "uint64")}
THREADS = 256
ARRIVALS = 512  # blocks that may meet in one launch, see join.cu
MOST_BLOCKS = (2**31 - 1, 65535, 65535)


def divide_up(n: int, by: int) -> int:
    return -(-n // by)


def spread(n: int) -> tuple[int]:
    """The grid of a kernel whose threads share out n numbers: enough to fill any GPU, and no more."""
    return (min(-(-n // THREADS), 8192),)


def shared(blocks: int, parts: int, numbers: int) -> int:
    """Numbers that blocks leave in memory, `numbers` each: none, where a sum is of one part."""
    return blocks * numbers if parts > 1 else 0


def bias_span(rows: int, columns: int) -> int:
    """Rows that a block of bias.cu adds up.  By the shape alone, so that the bits do not depend on the GPU."""
    height = THREADS // width(columns)
    return max(32 * height, divide_up(rows, max(1, 256 // max(1, divide_up(columns, width(columns))))))


def bias_blocks(rows: int, columns: int, span: int) -> int:
    return divide_up(columns, width(columns)) * max(1, divide_up(rows, span))


def bias_parts(rows: int, columns: int, span: int) -> int:
    """Numbers that they leave in memory for each other."""
    return shared(bias_blocks(rows, columns, span), divide_up(rows, span), width(columns))


def team(rows: int, columns: int) -> tuple[int, int]:
    """The block of a row reduction: (threads a row, rows a block).  A warp for short rows, if there are so many that they fill a GPU."""
    return (32, THREADS // 32) if columns <= (1024 if rows >= 1000 else 128) else (THREADS, 1)


def width(columns: int) -> int:
    """Threads beside each other in a column reduction: a power of two."""
    return min(32, 1 << max(columns - 1, 0).bit_length())


class Parameter:
    """One argument as declared: `float32[rows * columns] x`, `float32?[n] bias` (may be None), `int64 n`, or a structure by value."""

    def __init__(self, text: str, structures: dict[str, np.dtype]):
        match = re.fullmatch(r"(\w+)(\??)(?:\[(.+)\])? (\w+)", text.strip())
        if match is None or match[1] not in {**TYPES, **structures}:
            raise UsageError(f"a kernel's argument is declared as {text!r}; need 'type[length] name', type one of {', '.join(TYPES)}")
        self.type, self.optional, self.length, self.name = match[1], bool(match[2]), match[3], match[4]
        self.dtype = TYPES.get(self.type) or structures[self.type]

    def condition(self) -> str:
        """An expression that holds for the usual arguments; those it does not know are looked at more closely."""
        x = self.name
        if self.length is not None:
            there = f"type({x}) is array and {x}.dtype == {self.type} and {x}.flags.c_contiguous and {x}.size >= {self.length}"
            return f"({x} is None or {there})" if self.optional else there
        if self.type not in TYPES:
            return f"type({x}).__name__ == {self.type!r}"
        if self.dtype.kind == "f":
            return f"type({x}) is float"
        info = np.iinfo(self.dtype)
        return f"type({x}) is int and {info.min} <= {x} <= {info.max}"

    def value(self) -> str:
        """The expression for what the driver takes."""
        x = self.name
        if self.length is not None:
            return f"address({x}) if {x} is not None else 0" if self.optional else f"address({x})"
        return f"{self.type}.type({x})" if self.type in TYPES else f"{x}.record"


class Device:
    """Where kernels run.  `empty` makes an array there, `load` compiles a kernel, `launch` runs it."""

    array: Any  # the type of its arrays

    def empty(self, shape: Any, dtype: Any) -> Array:
        raise NotImplementedError

    def load(self, kernel: "Kernel") -> Any:
        raise NotImplementedError

    def address(self, x: Array) -> int:
        raise NotImplementedError

    def arrived(self) -> Array:
        """(ARRIVALS,) uint32, zero between launches: where blocks of a launch count themselves.  Launches on one stream share it."""
        raise NotImplementedError

    def launch(self, function: Any, grid: tuple[int, ...], block: tuple[int, ...], values: list[Any]) -> None:
        raise NotImplementedError


class CupyDevice(Device):
    """The current CUDA device, through CuPy; on the current stream."""

    def __init__(self) -> None:
        self.cupy = gpu()
        self.array = self.cupy.ndarray
        self.modules: dict[tuple[str, tuple[str, ...]], Any] = {}
        self.counters: dict[int, Array] = {}  # by stream

    def empty(self, shape: Any, dtype: Any) -> Array:
        try:
            return self.cupy.empty(shape, dtype)
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            free, total = self.cupy.cuda.runtime.memGetInfo()
            wanted = np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize
            raise UsageError(
                f"the GPU is out of memory: {wanted / 2**20:.0f} MiB are needed for {shape}, {free / 2**20:.0f} of {total / 2**20:.0f} MiB "
                "are free; use a smaller batch or model, or --device cpu"
            ) from error

    def load(self, kernel: "Kernel") -> Any:
        variant = kernel.file, kernel.defines
        if variant not in self.modules:
            options = ("--std=c++17", *(f"-D{name}" for name in kernel.defines))
            self.modules[variant] = self.cupy.RawModule(code=source(kernel.file), options=options)
        return self.modules[variant].get_function(kernel.name)

    def address(self, x: Array) -> int:
        return x.data.ptr

    def arrived(self) -> Array:
        stream = self.cupy.cuda.get_current_stream().ptr
        if stream not in self.counters:
            self.counters[stream] = self.cupy.zeros(ARRIVALS, np.uint32)
        return self.counters[stream]

    def launch(self, function: Any, grid: tuple[int, ...], block: tuple[int, ...], values: list[Any]) -> None:
        function(grid, block, values)


def source(file: str, folder: Path = SOURCES) -> str:
    """The text of a .cu file, with every `#include "..."` of a file beside it replaced, once each."""
    seen: set[str] = set()

    def text(name: str) -> str:
        seen.add(name)
        parts = re.split(r'^#include "(.+)"$', (folder / name).read_text("utf-8"), flags=re.MULTILINE)
        return "".join(part if i % 2 == 0 else "" if part in seen else text(part) for i, part in enumerate(parts))

    return text(file)


class Kernel:
    """A kernel of a .cu file: its name, its arguments and how it is spread over threads.

    arguments, in the order of the source: `type[length] name` for an array, whose length is an expression of the other arguments
    (at least so many numbers must be there), `type?[length] name` if None may stand for it, `type name` for a number.
    grid and block are expressions of the arguments.  structures: {name: dtype} of C structures passed by value; the argument is of a
    Python class of that name, whose `record` is the bytes.
    """

    registry: dict[str, "Kernel"] = {}

    def __init__(
        self,
        name: str,
        file: str,
        arguments: str,
        grid: str,
        block: str = "(THREADS,)",
        defines: tuple[str, ...] = (),
        structures: dict[str, np.dtype] | None = None,
    ):
        self.name, self.file, self.defines, self.structures = name, file, defines, structures or {}
        self.parameters = [Parameter(text, self.structures) for text in re.split(r",(?![^\[]*\])", arguments)]
        self.arrays = [(i, p) for i, p in enumerate(self.parameters) if p.length is not None]
        self.grid, self.block = grid, block
        self.device: Device | None = None  # that `function` was compiled for
        self.function: Any = None
        Kernel.registry[name] = self

    @functools.cached_property
    def plan(self) -> Callable[..., Any]:
        """The arguments -> grid, block, lengths."""
        names = ", ".join(p.name for p in self.parameters)
        lengths = "".join(f"{p.length}, " for _, p in self.arrays)
        return eval(f"lambda {names}: (({self.grid}), ({self.block}), ({lengths}))", globals())

    @functools.cached_property
    def quick(self) -> Callable[..., Any]:
        """All of `checked` as one expression, since time counts here: (grid, block, values), or False where `checked` says why."""
        names = ", ".join(p.name for p in self.parameters)
        holds = sorted((p.condition() for p in self.parameters), key=lambda text: ".size" in text)  # lengths after the numbers they are of
        values = ", ".join(p.value() for p in self.parameters)
        ready = f"(({self.grid}), ({self.block}), [{values}])"
        return eval(f"lambda array, address, {names}: {' and '.join(holds)} and {ready}", globals() | TYPES)

    def __call__(self, *arguments: Any) -> None:
        """Launch, if the arguments are what was declared; ShapeError, in one sentence, if not."""
        device = _device or current_device()
        try:
            ready = self.quick(device.array, device.address, *arguments)
        except TypeError:  # too few arguments, or too many
            ready = False
        if not ready or not 0 <= min(ready[0]) <= max(ready[0]) < 65536 or math.prod(ready[1]) > 1024:
            ready = self.checked(device, arguments)
        grid, block, values = ready
        if 0 in grid:
            return
        if self.device is not device:
            self.function = device.load(self)
            self.device = device  # last: another thread that finds it finds the function, too
        device.launch(self.function, grid, block, values)

    def checked(self, device: Device, arguments: Sequence[Any]) -> tuple[tuple[int, ...], tuple[int, ...], list[Any]]:
        """Grid, block, and the arguments as the driver takes them: addresses as int, numbers as NumPy scalars of the declared type."""
        if len(arguments) != len(self.parameters):
            names = ", ".join(p.name for p in self.parameters)
            raise ShapeError(f"kernel {self.name} takes {len(self.parameters)} arguments ({names}); got {len(arguments)}")
        for p, x in zip(self.parameters, arguments, strict=True):
            if p.length is None:
                if p.type in TYPES:
                    self.check_number(p, x)
                elif type(x).__name__ != p.type:
                    raise ShapeError(f"kernel {self.name}: {p.name} is {type(x).__name__}; need {p.type}")
            elif x is None:
                if not p.optional:
                    raise ShapeError(f"kernel {self.name}: {p.name} is None; need an array of {p.type}")
            elif type(x) is not device.array or x.dtype != p.dtype or not x.flags.c_contiguous:
                kind = f"{x.dtype}{'' if x.flags.c_contiguous else ', not contiguous'}" if type(x) is device.array else type(x).__name__
                where = f"{device.array.__module__}.{device.array.__name__}"
                raise ShapeError(f"kernel {self.name}: {p.name} is {kind}; need a contiguous {where} of {p.type}")
        grid, block, lengths = self.plan(*arguments)
        if any(not 0 <= n <= most for n, most in zip(grid, MOST_BLOCKS, strict=False)) or not 0 < math.prod(block) <= 1024:
            raise ShapeError(f"kernel {self.name}: a grid {grid} of blocks {block}; need at most {MOST_BLOCKS} blocks of 1024 threads")
        for (i, p), length in zip(self.arrays, lengths, strict=True):
            if arguments[i] is not None and arguments[i].size < length:
                raise ShapeError(f"kernel {self.name}: {p.name} has {arguments[i].size} elements; need {p.length} = {length}")
        values = [
            (0 if x is None else device.address(x)) if p.length is not None else p.dtype.type(x) if p.type in TYPES else x.record
            for p, x in zip(self.parameters, arguments, strict=True)
        ]
        return grid, block, values

    def check_number(self, p: Parameter, x: Any) -> None:
        number = isinstance(x, int | float | np.number) and not isinstance(x, bool)
        if not number or (
            p.dtype.kind in "iu" and (isinstance(x, float | np.floating) or not np.iinfo(p.dtype).min <= int(x) <= np.iinfo(p.dtype).max)
        ):
            raise ShapeError(f"kernel {self.name}: {p.name} is {x!r}; need a number that fits {p.type}")


_device: Device | None = None


def current_device() -> Device:
    """The device that launches go to: CuPy's, unless a test has set another."""
    global _device
    if _device is None:
        _device = CupyDevice()
    return _device


def set_device(device: Device | None) -> None:
    """Send launches to this device; None: back to CuPy's."""
    global _device
    _device = device


def arrived() -> Array:
    """Where the blocks of a launch on the current stream count themselves: see join.cu."""
    return (_device or current_device()).arrived()


def empty(shape: Any, dtype: Any = np.float32) -> Array:
    """An array on the current device, its numbers not yet written."""
    return (_device or current_device()).empty(shape, dtype)
