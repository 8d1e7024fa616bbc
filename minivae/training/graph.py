"""Epochs on a GPU: a whole training step as one CUDA graph, captured once and replayed.

    order, images  ->  gather  ->  [binarize]  ->  forward  ->  backward  ->  tally  ->  Adam
         |                             ^             ^                          |          ^
         '--- rows: first image        '--- rows: counter and key of a stream   '-> rows, health

What changes from step to step lies in device memory (kernels/gpu/tally.cu), so that a replay moves on by itself.  A stretch of replays is
all that the CPU sees: it writes rows and totals, launches the graph up to EVERY times, and reads both again.  Nothing in between waits.

A step whose loss or gradient is not finite moves nothing, neither parameters nor rows: the replays behind it in the stretch are the same
step again.  The CPU, which counts fewer steps than it launched, then runs that step eagerly, and so finds out which op it was.

The first step of a Trainer is eager, which compiles every kernel; the second is captured (nothing runs meanwhile), then run eagerly, and
replayed from the same state.  Unless every bit agrees, of parameters, optimizer, running moments, streams and measures, all steps stay
eager, and `why_eager` says why: a Python number that changes from step to step is frozen in a graph, and so is a branch.  As on a CPU,
only steps of classes that say that they compute with ops alone are captured: see replay/hook.py.  A step stays eager as well if it cannot
be captured at all: a product by cuBLAS (raw arrays that an objective multiplies by itself), a value that Python asks for, an upload, a
random number drawn on the CPU.  References that are elementwise or reductions are captured as they are.  Eager in any case: the last,
smaller batch of an epoch, and all steps of several players, of an objective that reports other numbers than a reconstruction and a KL,
with SGD, or in float64.
"""

from collections.abc import Callable
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
NAMES = ("loss", "reconstruction", "kl", "gradient_norm")


class DeviceEpochs:
    """The epochs of a Trainer whose model is on a GPU.  `why_eager` is a sentence once its steps could not become a graph, else empty."""

    def __init__(self, trainer: Any):
        self.trainer, self.cupy = trainer, gpu()
        self.bits = Stream(trainer.config.seed)
        self.rows, self.totals = self.cupy.zeros((STREAMS, 4), np.uint64), self.cupy.zeros(4, np.float64)
        self.images: Array = None  # (N, H, W, C) uint8, and the order that they are taken in, both on the device
        self.order: Array = None
        self.kept: dict[str, Array] = {}  # arrays that came from the CPU
        self.labels: Array = None  # of each image, and which of its pixels are known
        self.masks: Array = None
        self.epochs = self.cupy.zeros((), np.float32)  # what the objective takes for its progress
        self.drawn: tuple[Any, Any] = (None, None)  # seed, epoch and number of its images, and their order
        self.within: Array = None  # 0 ... batch_size - 1
        self.made_for: Any = None  # what the graph holds addresses of, and numbers that it was made with
        self.warm = False
        self.graph: Graph | None = None
        self.why_eager = self.refused()

    @property
    def optimizer(self) -> Any:
        """The first player's."""
        return next(iter(self.trainer.optimizers.values()))

    def refused(self) -> str:
        """Why no step of this trainer can be a graph, if so."""
        if len(self.trainer.players) > 1:
            return "its players have an optimizer each, and a graph knows one"
        if self.trainer.replay.refused:
            return self.trainer.replay.refused
        optimizer = self.optimizer
        sure = isinstance(optimizer, Adam) and optimizer.has_kernel
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
        self.bits.set_state(trainer.config.stream("bits", number).state())
        self.upload(images, self.order_of(number, n), labels, masks)
        others = trainer.second_batches(self.images, self.labels, self.masks, number)
        totals, counted, i, steps, doubtful = np.zeros(4), 0, 0, -(-n // size), False
        while i < steps:
            whole = n // size - i  # batches of the full size to come
            static = not self.why_eager and whole > 0
            if static and self.graph is not None and not doubtful:
                count = min(EVERY, whole)
                sound, measures = self.stretch(self.graph, i, count, steps, totals)
                i, doubtful, counted = i + sound, sound < count, counted + sound * size
                if doubtful:
                    continue
                loss = measures[0]
            else:
                here, at = min(size, n - i * size), i
                where = f"epoch {number}, step {i + 1} of {steps}"

                def eager(at: int = at, where: str = where) -> dict[str, float]:
                    return self.eager(at, n, steps, where, next(others, None))

                found = self.captured(i, steps, eager) if static and self.warm and self.graph is None else eager()
                self.warm |= static
                sums.add(here, found)
                i, doubtful, loss = i + 1, False, found.get("loss", np.nan)
            if progress is not None:
                progress(min(i * size, n), loss)
        if counted:
            sums.add(counted, dict(zip(NAMES, (totals / counted).tolist(), strict=True)))

    def order_of(self, epoch: int, n: int) -> np.ndarray:
        """The order of an epoch's images, drawn while the GPU was busy with the epoch before: that takes as long as a hundred steps."""
        wanted = self.trainer.config.seed, epoch, n
        if self.drawn[0] != wanted:
            self.drawn = wanted, self.trainer.config.stream("order", epoch).permutation(n)
        return self.drawn[1]

    def upload(self, images: Array, order: np.ndarray, labels: Array | None = None, masks: Array | None = None) -> None:
        """Bring them to the device, to where they were before if they fit, so that a graph's addresses stay true."""
        cupy, replay = self.cupy, self.trainer.replay
        named = (("images", images), ("labels", labels), ("masks", masks))
        self.images, self.labels, self.masks = (self.resident(name, a) for name, a in named)
        if self.order is None or len(self.order) != len(order):
            self.order = cupy.empty(len(order), np.int64)
        self.order.set(order)
        held = (self.images, self.order, self.optimizer.flat, self.labels, self.masks)
        made_for = [None if a is None else (a.data.ptr, a.shape) for a in held], self.trainer.config, precision()
        if made_for != self.made_for or not replay.guard.holds():
            replay.look()
            self.made_for, self.graph, self.warm, self.why_eager = made_for, None, False, self.refused()
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
        now = self.trainer.pace(i, steps, len(self.order))
        self.epochs.fill(float(now.epochs))
        return now._replace(epochs=self.epochs)

    def eager(self, i: int, n: int, steps: int, where: str, other: Batch | None) -> dict[str, float]:
        """Step i, each of its kernels launched from Python."""
        trainer, size = self.trainer, self.trainer.config.batch_size
        count = min(size, n - i * size)
        self.rows[0, 2] = i * size
        batch = self.batch(*self.gather(count, i * size))._replace(other=other)
        return trainer.update(batch, self.progress(i, steps), where)

    def gather(self, count: int, first: int, row: Array | None = None) -> tuple[Array, Array]:
        """The `count` images from the batch's first on, as the model takes them, and which they are: bytes by a kernel."""
        if self.images.dtype == np.uint8:
            return step.gather(self.images, self.order, count, first, row)
        at = self.places(count)
        return to_float(self.images[at]), at

    def batch(self, x: Array, at: Array) -> Batch:
        x = binarize(x, self.bits) if self.trainer.config.binarize else x
        return Batch(x, None if self.labels is None else self.labels[at], None if self.masks is None else self.masks[at], at)

    def places(self, count: int) -> Array:
        """Which images the batch's are, `count` from the first on, which rows[0] holds."""
        first = self.rows[0, 2:3].astype(np.int64)
        return self.order[(first + self.within[:count]) % len(self.order)]

    def captured(self, i: int, steps: int, eager: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Step i run eagerly, then by a graph made of it from the same state: kept if all bits agree."""
        trainer = self.trainer
        optimizer, model = self.optimizer, trainer.model
        try:
            graph = Graph(self.cupy, self.rows, self.launches)
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
        same = own[1:] == after[1:] and dict(zip(NAMES, replayed, strict=True)) == measures
        if same and all((a.view(np.uint32) == b.view(np.uint32)).all() for a, b in zip(own[0], after[0], strict=True)):
            self.graph = graph
        else:
            set_state(*after)
            self.why_eager = "a graph of the step differs from the step: it works on something that changes in Python, or that has no order"
        return measures

    def launches(self, graph: Graph) -> Array:
        """All that one step launches; its measures."""
        trainer, rows = self.trainer, self.rows
        size = trainer.config.batch_size
        batch = self.batch(*self.gather(size, 0, rows[0]))
        (player,) = trainer.players
        now = Progress(self.epochs, (player,), len(self.order))
        losses, reports = trainer.objective.losses(trainer.players, batch, trainer.noise, now)
        gs = gradients(losses[player], self.optimizer.params)
        blocks = [stream.counter - begun for stream, begun in graph.begun.items()] or [0]
        measures, health, squares = step.tally(*values(losses[player], reports), gs, self.totals, size, rows, blocks)
        self.optimizer.launch(rows[0], gs, health, None if trainer.config.clip is None else (squares, trainer.config.clip))
        return measures

    def stretch(self, graph: Graph, i: int, count: int, steps: int, totals: np.ndarray) -> tuple[int, tuple[float, ...]]:
        """Launch the graph for steps i ... i + count - 1.  -> how many were sound, and the measures of the last; totals in place."""
        trainer, optimizer = self.trainer, self.optimizer
        rows = np.zeros((STREAMS, 4), np.uint64)
        for row, stream in enumerate(graph.streams):
            rows[row, 0], rows[row, 3] = stream.counter, stream.key
        rows[0, 1:3] = optimizer.steps, i * trainer.config.batch_size
        self.rows.set(rows)
        self.totals.set(totals)
        rate = None
        try:
            for k in range(count):
                self.progress(i + k, steps)
                if optimizer.lr != rate:
                    rate = optimizer.lr
                    optimizer.rate.fill(rate)
                graph.launch()
            if trainer.epochs_done + 1 < trainer.config.epochs:
                self.order_of(trainer.epochs_done + 2, len(self.order))  # before anybody waits
        finally:  # also when somebody interrupts: the parameters have moved, and what counts their steps must follow
            rows = self.rows.get()  # waits for the last launch
            totals[...] = self.totals.get()
            for row, stream in enumerate(graph.streams):
                stream.counter = int(rows[row, 0])
            sound = int(rows[0, 1]) - optimizer.steps
            optimizer.steps += sound
        return sound, tuple(graph.results.get().tolist())


def values(loss: Any, reports: Any) -> tuple[Array, Array, Array]:
    """What the kernel that takes the measures of a step is given."""
    if set(reports) != {"reconstruction", "kl"}:
        raise UsageError(f"its objective reports {', '.join(reports) or 'nothing'}, and a graph reports a reconstruction and a kl")
    return loss.data, reports["reconstruction"].data, reports["kl"].data


def measures_on_gpu(loss: Any, reports: Any, gs: list[Array]) -> dict[str, float]:
    """Loss, reconstruction, KL and norm of a step on a GPU, by the kernels that a graph takes them by."""
    return dict(zip(NAMES, step.tally(*values(loss, reports), gs)[0].get().tolist(), strict=True))
