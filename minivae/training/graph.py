"""Epochs on a GPU: a whole training step as one CUDA graph, captured once and replayed.

    order, images  ->  gather  ->  [binarize]  ->  forward  ->  backward  ->  tally  ->  Adam
         |                             ^             ^                          |          ^
         '--- rows: first image        '--- rows: counter and key of a stream   '-> rows, health

What changes from step to step lies in device memory (kernels/gpu/tally.cu), so that a replay moves on by itself.  A stretch of replays is
all that the CPU sees: it writes rows and totals, launches graphs up to EVERY times, and reads both again.  Nothing in between waits.
Players that move at different steps have a graph for each of their turns; an optimizer of each counts its own steps.

A step that tells of anything not finite, a loss, a report, a gradient, moves no parameters and no rows: the replays behind it in the
stretch are the same step again.  The CPU, which counts fewer steps than it launched, then runs that step eagerly, and so finds out which
op it was.

The first step of a turn is eager, which compiles every kernel; its second is captured (nothing runs meanwhile), then run eagerly, and
replayed from the same state.  Unless every bit agrees, of parameters, optimizers, running moments, streams and measures, all steps stay
eager, and `why_eager` says why: a Python number that changes from step to step is frozen in a graph, and so is a branch.  As on a CPU,
only steps of classes that say that they compute with ops alone are captured: see replay/hook.py.  A step stays eager as well if it cannot
be captured at all: a product by cuBLAS (raw arrays that an objective multiplies by itself), a value that Python asks for, an upload, a
random number drawn on the CPU.  References that are elementwise or reductions are captured as they are.  Eager in any case: the last,
smaller batch of an epoch, and all steps with SGD, or in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend import Array, gpu, precision, xp
from ..data import Batch, binarize, to_float
from ..engine import gradients
from ..errors import UsageError
from ..kernels.gpu import step
from ..objectives import Progress
from ..random import Stream
from ..replay.graph import STREAMS, Graph
from .optimizers import Adam

EVERY = 100  # steps of a stretch, at most: reading costs about as much as one step
SECOND = " of the others"  # streams of the second batch of a step


@dataclass(eq=False)
class Turn:
    """The steps of those who move together."""

    totals: Array  # on the device: sums over images of what its steps tell
    warm: bool = False  # whether one ran, so that its kernels are compiled
    graph: Graph | None = None
    names: tuple[str, ...] = ()  # of what its graph tells
    constants: dict[str, float] = field(default_factory=dict)  # that it tells as well

    def told(self) -> dict[str, float]:
        """By the last launch."""
        numbers = [] if self.graph is None else self.graph.results.get().tolist()
        return dict(zip(self.names, numbers, strict=True)) | self.constants


class DeviceEpochs:
    """The epochs of a Trainer whose model is on a GPU.  `why_eager` is a sentence once its steps could not become graphs, else empty."""

    def __init__(self, trainer: Any):
        self.trainer, self.cupy = trainer, gpu()
        self.optimizers = list(trainer.optimizers.values())
        self.passes = ["", SECOND] if trainer.objective.second_batch else [""]  # over the data, each in an order of its own
        self.bits = [Stream(trainer.config.seed) for _ in self.passes]
        self.rows = self.cupy.zeros((STREAMS, 4), np.uint64)
        self.streams: list[Stream] = []  # of the rows
        self.images: Array = None  # (N, H, W, C) uint8, and the orders that they are taken in, all on the device
        self.orders: list[Array] = []
        self.kept: dict[str, Array] = {}  # arrays that came from the CPU
        self.labels: Array = None  # of each image, and which of its pixels are known
        self.masks: Array = None
        self.epochs = self.cupy.zeros((), np.float32)  # what the objective takes for its progress
        self.drawn: tuple[Any, list[np.ndarray]] = (None, [])  # seed, epoch and number of its images, and their orders
        self.within: Array = None  # 0 ... batch_size - 1
        self.made_for: Any = None  # what the graphs hold addresses of, and numbers that they were made with
        self.turns: dict[tuple[str, ...], Turn] = {}
        self.why_eager = self.refused()

    def refused(self) -> str:
        """Why no step of this trainer can be a graph, if so."""
        if self.trainer.replay.refused:
            return self.trainer.replay.refused
        sure = all(isinstance(optimizer, Adam) and optimizer.has_kernel for optimizer in self.optimizers)
        return "" if sure else "only Adam on float32 parameters has a kernel that counts its steps on the GPU"

    def epoch(
        self,
        images: Array,
        labels: Array | None,
        masks: Array | None,
        sums: Any,
        progress: Callable[[int, float], None] | None,
    ) -> None:
        """One pass; the sums over the images go to `sums`."""
        trainer, size, n = self.trainer, self.trainer.config.batch_size, len(images)
        number = trainer.epochs_done + 1
        for bits, which in zip(self.bits, self.passes, strict=True):
            bits.set_state(trainer.config.stream(f"bits{which}", number).state())
        self.upload(images, self.orders_of(number, n), labels, masks)
        i, steps, doubtful = 0, -(-n // size), False
        while i < steps:
            turn = self.turn(self.trainer.pace(i, steps, n).turn)
            whole = n // size - i  # batches of the full size to come
            static = not self.why_eager and whole > 0
            if static and turn.graph is not None and not doubtful:
                count, sound, loss = self.stretch(i, min(EVERY, whole), steps, sums)
                i, doubtful = i + sound, sound < count
                if doubtful:
                    continue
            else:
                here, where = min(size, n - i * size), f"epoch {number}, step {i + 1} of {steps}"

                def eager(at: int = i, here: int = here, where: str = where) -> dict[str, float]:
                    self.rows[0, 2] = at * size
                    return trainer.update(self.batch(here, at * size), self.progress(at, steps), where)

                found = self.captured(turn, i, steps, eager) if static and turn.warm and turn.graph is None else eager()
                turn.warm |= static
                sums.add(here, found)
                i, doubtful, loss = i + 1, False, found.get("loss", np.nan)
            if progress is not None:
                progress(min(i * size, n), loss)

    @property
    def graphs(self) -> list[Graph]:
        """Of all turns that have one."""
        return [turn.graph for turn in self.turns.values() if turn.graph is not None]

    def turn(self, moving: tuple[str, ...]) -> Turn:
        """The turn of those who move."""
        if moving not in self.turns:
            self.turns[moving] = Turn(self.cupy.zeros(step.VALUES + step.PLAYERS, np.float64))
        return self.turns[moving]

    def orders_of(self, epoch: int, n: int) -> list[np.ndarray]:
        """The orders of an epoch's images, drawn while the GPU was busy with the epoch before: that takes as long as a hundred steps."""
        config = self.trainer.config
        wanted = config.seed, epoch, n
        if self.drawn[0] != wanted:
            self.drawn = wanted, [config.stream(f"order{which}", epoch).permutation(n) for which in self.passes]
        return self.drawn[1]

    def upload(self, images: Array, orders: list[np.ndarray], labels: Array | None = None, masks: Array | None = None) -> None:
        """Bring them to the device, to where they were before if they fit, so that a graph's addresses stay true."""
        cupy, replay = self.cupy, self.trainer.replay
        named = (("images", images), ("labels", labels), ("masks", masks))
        self.images, self.labels, self.masks = (self.resident(name, a) for name, a in named)
        if [len(order) for order in self.orders] != [len(order) for order in orders]:
            self.orders = [cupy.empty(len(order), np.int64) for order in orders]
        for order, drawn in zip(self.orders, orders, strict=True):
            order.set(drawn)
        held = (self.images, *self.orders, *(optimizer.flat for optimizer in self.optimizers), self.labels, self.masks)
        made_for = [None if a is None else (a.data.ptr, a.shape) for a in held], self.trainer.config, precision()
        if made_for != self.made_for or not replay.guard.holds():
            replay.look()
            self.made_for, self.turns, self.why_eager = made_for, {}, self.refused()
            self.within = cupy.arange(self.trainer.config.batch_size)

    def resident(self, name: str, a: Array | None) -> Array | None:
        """An array on the device; one from the CPU where the last of its name lay, if that fits."""
        if a is None or xp(a) is not np:
            return a
        kept = self.kept.get(name)
        if kept is None or (kept.shape, kept.dtype) != (a.shape, a.dtype):
            self.kept[name] = self.cupy.empty(a.shape, a.dtype)
        self.kept[name].set(np.ascontiguousarray(a))
        return self.kept[name]

    def progress(self, i: int, steps: int) -> Progress:
        """Where step i stands, its number of epochs in the memory of the device."""
        now = self.trainer.pace(i, steps, len(self.orders[0]))
        self.epochs.fill(float(now.epochs))
        return now._replace(epochs=self.epochs)

    def batch(self, count: int, first: int, row: Array | None = None) -> Batch:
        """The `count` images from the first on, as the model takes them, with those that an objective wants beside them.

        row    where a graph reads which is the first"""
        own, *other = (self.part(which, count, first, row) for which in range(len(self.passes)))
        return own._replace(other=other[0] if other else None)

    def part(self, which: int, count: int, first: int, row: Array | None) -> Batch:
        """A batch of one of the passes."""
        if self.images.dtype == np.uint8:
            x, at = step.gather(self.images, self.orders[which], count, first, row)
        else:
            begin = self.rows[0, 2:3].astype(np.int64)
            at = self.orders[which][(begin + self.within[:count]) % len(self.orders[which])]
            x = to_float(self.images[at])
        x = binarize(x, self.bits[which]) if self.trainer.config.binarize else x
        return Batch(x, None if self.labels is None else self.labels[at], None if self.masks is None else self.masks[at], at)

    def captured(self, turn: Turn, i: int, steps: int, eager: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Step i run eagerly, then by a graph made of it from the same state: kept if all bits agree."""
        trainer, moving = self.trainer, self.progress(i, steps).turn
        modules = trainer.modules().values()
        try:
            graph = self.capture(moving)
        except Exception as error:  # whatever a graph cannot hold; a step that is wrong in itself says so below
            self.why_eager = f"the step cannot be captured as a CUDA graph: {error}"
            return eager()
        arrays = [a for optimizer in self.optimizers for a in (optimizer.flat, optimizer.m, optimizer.v)]
        arrays += [a for module in modules for a in module.named_buffers().values()]
        own = [stream for module in modules for stream in module.named_streams().values()]
        streams = list({trainer.noise, *self.bits, *own, *self.streams})

        def state() -> tuple[list[Array], list[dict[str, int]], list[int]]:
            return [a.copy() for a in arrays], [stream.state() for stream in streams], [optimizer.steps for optimizer in self.optimizers]

        def set_state(copies: list[Array], states: list[dict[str, int]], done: list[int]) -> None:
            for a, b in zip(arrays, copies, strict=True):
                a[...] = b
            for stream, counted in zip(streams, states, strict=True):
                stream.set_state(counted)
            for optimizer, number in zip(self.optimizers, done, strict=True):
                optimizer.steps = number

        before = state()
        measures = eager()
        after = state()
        set_state(*before)
        turn.graph = graph
        self.stretch(i, 1, steps)
        found = state()
        same = found[1:] == after[1:] and turn.told() == measures
        if not same or not all((a.view(np.uint32) == b.view(np.uint32)).all() for a, b in zip(found[0], after[0], strict=True)):
            set_state(*after)
            turn.graph = None
            self.why_eager = "a graph of the step differs from the step: it works on something that changes in Python, or that has no order"
        return measures

    def capture(self, moving: tuple[str, ...]) -> Graph:
        """A step of theirs as a graph."""
        turn = self.turn(moving)
        return Graph(self.cupy, self.rows, lambda graph: self.launches(graph, moving, turn), self.streams)

    def launches(self, graph: Graph, moving: tuple[str, ...], turn: Turn) -> Array:
        """All that one step launches; what it tells."""
        trainer, rows, size = self.trainer, self.rows, self.trainer.config.batch_size
        now = Progress(self.epochs, moving, len(self.orders[0]))
        losses, reports = trainer.objective.losses(trainer.players, self.batch(size, 0, rows[0]), trainer.noise, now)
        players = {name: row for row, name in enumerate(trainer.players) if name in moving}
        gs = [gradients(losses[name], trainer.optimizers[name].params) for name in players]
        told = trainer.told(losses, reports, [*players], gs)
        if not told.has_kernel:
            raise UsageError(f"it tells of {', '.join(told.values)}, and the kernel takes at most {step.VALUES} float32 arrays of the GPU")
        arrays, turn.constants = told.parts()
        turn.names = (*arrays, *told.norms)
        blocks, moved = graph.blocks(), [*players.values()]
        measures, health, squares = step.tally([*arrays.values()], gs, turn.totals, size, rows, blocks, moved)
        for i, (name, row) in enumerate(players.items()):
            clip = None if trainer.config.clip is None else (squares[i : i + 1], trainer.config.clip)
            trainer.optimizers[name].launch(rows[row], gs[i], health, clip)
        return measures

    def stretch(self, i: int, count: int, steps: int, sums: Any = None) -> tuple[int, int, float]:
        """Launch graphs for steps i ... i + count - 1, or as far as there are some.  -> how many, how many of them were sound, and the
        loss of the last; what they tell goes to `sums`."""
        trainer, size, launched = self.trainer, self.trainer.config.batch_size, []
        rows, rates = np.zeros((STREAMS, 4), np.uint64), [0.0] * len(self.optimizers)
        for row, stream in enumerate(self.streams):
            rows[row, 0], rows[row, 3] = stream.counter, stream.key
        rows[: len(self.optimizers), 1], rows[:, 2] = [optimizer.steps for optimizer in self.optimizers], i * size
        self.rows.set(rows)
        for turn in self.turns.values():
            turn.totals.fill(0)
        try:
            for k in range(count):
                turn = self.turn(self.progress(i + k, steps).turn)
                if turn.graph is None:
                    break
                for row, optimizer in enumerate(self.optimizers):
                    if optimizer.lr != rates[row]:
                        rates[row] = optimizer.lr
                        optimizer.rate.fill(rates[row])
                turn.graph.launch()
                launched.append(turn)
            if trainer.epochs_done + 1 < trainer.config.epochs:
                self.orders_of(trainer.epochs_done + 2, len(self.orders[0]))  # before anybody waits
        finally:  # also when somebody interrupts: the parameters have moved, and what counts their steps must follow
            rows = self.rows.get()  # waits for the last launch
            for row, stream in enumerate(self.streams):
                stream.counter = int(rows[row, 0])
            for row, optimizer in enumerate(self.optimizers):
                optimizer.steps = int(rows[row, 1])
        sound = (int(rows[0, 2]) - i * size) // size
        for turn in dict.fromkeys(launched[:sound]) if sums is not None else ():
            images, totals = size * launched[:sound].count(turn), turn.totals.get().tolist()
            constants = {name: images * number for name, number in turn.constants.items()}
            sums.add_totals(images, dict(zip(turn.names, totals, strict=False)) | constants)
        return len(launched), sound, launched[-1].told().get("loss", np.nan)
