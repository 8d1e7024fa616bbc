"""Epochs on a GPU: a whole training step as one CUDA graph, captured once and replayed.

    order, images  ->  gather  ->  [binarize]  ->  forward  ->  backward  ->  tally  ->  Adam  ->  advance
         |                             ^             ^                          |         ^         |
         '--- rows: first image        '--- rows: counter and key of a stream   '--health-'         '---> rows

What changes from step to step lies in device memory (kernels/gpu/step.cu), so that a replay moves on by itself.  A stretch of replays is
all that the CPU sees: it writes rows and totals, launches the graph up to EVERY times, and reads both again.  Nothing in between waits.

A step whose loss or gradient is not finite moves nothing, neither parameters nor rows: the replays behind it in the stretch are the same
step again.  The CPU, which counts fewer steps than it launched, then runs that step eagerly, and so finds out which op it was.

The first step of a Trainer is eager, which compiles every kernel; the second is captured (nothing runs meanwhile), then run eagerly, and
replayed from the same state.  Unless every bit agrees, of parameters, optimizer, running moments, streams and measures, all steps stay
eager, and `why_eager` says why: a Python number that changes from step to step is frozen in a graph, and so is a branch.  A step stays
eager as well if it cannot be captured at all: a product by cuBLAS (raw arrays that an objective multiplies by itself), a value that Python
asks for, an upload, a random number drawn on the CPU.  References that are elementwise or reductions are
captured as they are.  Eager in any case: the last, smaller batch of an epoch, a step while the KL's weight warms up, and all steps with
SGD or in float64.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np

from ..backend import Array, gpu, precision, xp
from ..data import binarize
from ..errors import UsageError
from ..kernels.gpu import step
from ..models import conditioned
from ..objectives import Terms
from ..random import Stream, place
from .optimizers import Adam, clip_gradients

EVERY = 100  # steps of a stretch, at most: reading costs about as much as one step
STREAMS = 64  # that a step may draw from


class DeviceEpochs:
    """The epochs of a Trainer whose model is on a GPU.  `why_eager` is a sentence once its steps could not become a graph, else empty."""

    def __init__(self, trainer: Any):
        self.trainer, self.cupy = trainer, gpu()
        self.bits = Stream(trainer.config.seed)
        self.rows, self.totals = self.cupy.zeros((STREAMS, 4), np.uint64), self.cupy.zeros(4, np.float64)
        self.images: Array = None  # (N, H, W, C) uint8, and the order that they are taken in, both on the device
        self.order: Array = None
        self.resident: Array = None  # images that came from the CPU
        self.told: Array = None  # (N, condition), what a CVAE is told of each image
        self.within: Array = None  # 0 ... batch_size - 1
        self.made_for: Any = None  # what the graph holds addresses of, and numbers that it was made with
        self.warm = False
        self.graph: Graph | None = None
        self.why_eager = self.refused()

    def refused(self) -> str:
        """Why no step of this trainer can be a graph, if so."""
        if self.trainer.players > 1:
            return "the critic has an optimizer of its own, which a graph does not know"
        optimizer = self.trainer.optimizer
        sure = isinstance(optimizer, Adam) and optimizer.has_kernel
        return "" if sure else "only Adam on float32 parameters has a kernel that counts its steps on the GPU"

    def epoch(
        self,
        images: Array,
        streams: tuple[Stream, Stream, Stream],
        conditions: Any,
        progress: Callable[[int, float], None] | None,
        name: str,
    ) -> np.ndarray:
        """One pass, its noise, bits and order from the streams.  -> the sums over the images of loss, reconstruction, kl and norm."""
        trainer, size, n = self.trainer, self.trainer.config.batch_size, len(images)
        noise, bits, order = streams
        trainer.noise.set_state(noise.state())
        self.bits.set_state(bits.state())
        self.upload(images, order.permutation(n), conditions)
        totals, i, steps, doubtful = np.zeros(4), 0, -(-n // size), False
        while i < steps:
            whole = n // size - i  # batches of the full size to come
            static = trainer.pace(i, steps) == 1 and not self.why_eager and whole > 0
            if static and self.graph is not None and not doubtful:
                count = min(EVERY, whole)
                sound, measures = self.stretch(self.graph, i, count, steps, totals)
                i, doubtful = i + sound, sound < count
                if doubtful:
                    continue
            else:
                eager = partial(self.eager, i, n, steps, f"{name}, step {i + 1} of {steps}")
                measures = self.captured(i, steps, eager) if static and self.warm and self.graph is None else eager()
                self.warm |= static
                totals += min(size, n - i * size) * np.array(measures)
                i, doubtful = i + 1, False
            if progress is not None:
                progress(min(i * size, n), measures[0])
        return totals

    def upload(self, images: Array, order: np.ndarray, conditions: Any = None) -> None:
        """Bring them to the device, to where they were before if they fit, so that a graph's addresses stay true."""
        cupy, optimizer = self.cupy, self.trainer.optimizer
        if xp(images) is not np:
            self.images = images
        else:
            if self.resident is None or (self.resident.shape, self.resident.dtype) != (images.shape, images.dtype):
                self.resident = cupy.empty(images.shape, images.dtype)
            self.resident.set(np.ascontiguousarray(images))
            self.images = self.resident
        if self.order is None or len(self.order) != len(order):
            self.order = cupy.empty(len(order), np.int64)
        self.order.set(order)
        if conditions is None:
            self.told = None
        else:
            told = conditioned(self.trainer.model, conditions).told()
            if self.told is None or self.told.shape != told.shape:
                self.told = cupy.empty_like(told)
            self.told[...] = told
        held = (self.images, self.order, optimizer.flat, self.told)
        made_for = [None if a is None else (a.data.ptr, a.shape) for a in held], self.trainer.config, precision()
        if made_for != self.made_for:
            self.made_for, self.graph, self.warm, self.why_eager = made_for, None, False, self.refused()
            self.within = cupy.arange(self.trainer.config.batch_size)

    def eager(self, i: int, n: int, steps: int, where: str) -> tuple[float, ...]:
        """Step i, each of its kernels launched from Python."""
        trainer, size = self.trainer, self.trainer.config.batch_size
        warmed = trainer.pace(i, steps)
        x = step.gather(self.images, self.order, min(size, n - i * size), i * size)
        x = binarize(x, self.bits) if trainer.config.binarize else x
        self.rows[0, 2] = i * size
        return trainer.step(x, trainer.noise, where, self.condition(len(x)), warmed)

    def condition(self, count: int) -> Array:
        """What is told of the `count` images from the batch's first on, which rows[0] holds; or None."""
        if self.told is None:
            return None
        first = self.rows[0, 2:3].astype(np.int64)
        return self.told[self.order[(first + self.within[:count]) % len(self.order)]]

    def captured(self, i: int, steps: int, eager: Callable[[], tuple[float, ...]]) -> tuple[float, ...]:
        """Step i run eagerly, then by a graph made of it from the same state: kept if all bits agree."""
        trainer = self.trainer
        optimizer, model = trainer.optimizer, trainer.model
        step.advance(self.rows[0], 0, 0)  # the one kernel that no eager step has compiled
        try:
            graph = Graph(self)
        except Exception as error:  # whatever a graph cannot hold; a step that is wrong in itself says so below
            self.why_eager = f"the step cannot be captured as a CUDA graph: {error}"
            return eager()
        arrays = [optimizer.flat, optimizer.m, optimizer.v, *model.named_buffers().values()]
        streams = list({trainer.noise, self.bits, *model.named_streams().values(), *graph.streams})

        def state() -> tuple[list[Array], list[dict[str, int]], int]:
            return [a.copy() for a in arrays], [stream.state() for stream in streams], optimizer.steps

        def set_state(copies: list[Array], states: list[dict[str, int]], done: int) -> None:
            for a, b in zip(arrays, copies, strict=True):
                a[...] = b
            for stream, counted in zip(streams, states, strict=True):
                stream.set_state(counted)
            optimizer.steps = done

        before = state()
        measures = eager()
        after = state()
        set_state(*before)
        _, replayed = self.stretch(graph, i, 1, steps, np.zeros(4))
        own = state()
        same = own[1:] == after[1:] and replayed == measures
        if same and all((a.view(np.uint32) == b.view(np.uint32)).all() for a, b in zip(own[0], after[0], strict=True)):
            self.graph = graph
        else:
            set_state(*after)
            self.why_eager = "a graph of the step differs from the step: it works on something that changes in Python, or that has no order"
        return measures

    def stretch(self, graph: "Graph", i: int, count: int, steps: int, totals: np.ndarray) -> tuple[int, tuple[float, ...]]:
        """Launch the graph for steps i ... i + count - 1.  -> how many were sound, and the measures of the last; totals in place."""
        trainer, optimizer = self.trainer, self.trainer.optimizer
        rows = np.zeros((STREAMS, 4), np.uint64)
        for row, stream in enumerate(graph.streams):
            rows[row, 0], rows[row, 3] = stream.counter, stream.key
        rows[0, 1:3] = optimizer.steps, i * trainer.config.batch_size
        self.rows.set(rows)
        self.totals.set(totals)
        rate = None
        try:
            for k in range(count):
                trainer.pace(i + k, steps)
                if optimizer.lr != rate:
                    rate = optimizer.lr
                    optimizer.rate.fill(rate)
                graph.launch()
        finally:  # also when somebody interrupts: the parameters have moved, and what counts their steps must follow
            rows = self.rows.get()  # waits for the last launch
            totals[...] = self.totals.get()
            for row, stream in enumerate(graph.streams):
                stream.counter = int(rows[row, 0])
            sound = int(rows[0, 1]) - optimizer.steps
            optimizer.steps += sound
        return sound, tuple(graph.measures.get().tolist())


class Graph:
    """The step of DeviceEpochs as a CUDA graph.  It holds raw addresses: of the arena, and of arrays that its maker keeps.

    streams   that the step draws from, in the order of their rows
    """

    def __init__(self, epochs: DeviceEpochs):
        self.epochs, cupy = epochs, epochs.cupy
        self.begun: dict[Stream, int] = {}  # counters where the step begins
        self.memory: list[Any] = []
        pool = cupy.cuda.MemoryPool(self.allocate)
        stream = cupy.cuda.Stream(non_blocking=True)
        token = place.set(self.place)
        try:
            with cupy.cuda.using_allocator(pool.malloc), no_uploads(cupy), stream:
                stream.begin_capture()
                try:
                    self.measures = self.step()
                except BaseException:
                    with suppress(Exception):  # it says again that the capture has failed
                        stream.end_capture()
                    raise
                self.graph = stream.end_capture()
        finally:
            place.reset(token)
            for drawn_from, begun in self.begun.items():
                drawn_from.counter = begun
        self.pool, self.streams = pool, list(self.begun)

    def allocate(self, size: int) -> Any:
        """Memory of the arena: from the device, and kept even when the pool, short of memory, would give it back."""
        cupy = self.epochs.cupy
        self.memory.append(cupy.cuda.Memory(size))
        return cupy.cuda.MemoryPointer(self.memory[-1], 0)

    def place(self, stream: Stream) -> tuple[int, int, Array]:
        """Key and counter of a stream, from its row on."""
        begun = self.begun.setdefault(stream, stream.counter)
        row = list(self.begun).index(stream)
        if row >= STREAMS:
            raise UsageError(f"it draws from more than {STREAMS} streams")
        return 0, stream.counter - begun, self.epochs.rows[row]

    def step(self) -> Array:
        """All that one step launches; its measures."""
        epochs, trainer, rows = self.epochs, self.epochs.trainer, self.epochs.rows
        size = trainer.config.batch_size
        x = step.gather(epochs.images, epochs.order, size, 0, rows[0])
        x = binarize(x, epochs.bits) if trainer.config.binarize else x
        terms, gs = trainer.compiled(epochs.condition(size), 1.0)(x)
        measures, health = step.tally(*values(terms), gs, epochs.totals, size)
        gs = gs if trainer.config.clip is None else clip_gradients(gs, trainer.config.clip)
        trainer.optimizer.launch(rows[0], gs, health)
        for row, stream in enumerate(self.begun or [None]):
            step.advance(rows[row], 0 if stream is None else stream.counter - self.begun[stream], size, health)
        return measures

    def launch(self) -> None:
        """Replay the step, on the current stream."""
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


def values(terms: Terms) -> tuple[Array, Array, Array]:
    return terms.loss.data, terms.log_likelihood.data, terms.kl.data


def measures_on_gpu(terms: Terms, gradients: list[Array]) -> tuple[float, ...]:
    """Loss, reconstruction, KL and norm of a step on a GPU, by the kernels that a graph takes them by."""
    return tuple(step.tally(*values(terms), gradients)[0].get().tolist())
