"""minivae on a GPU as a contestant: `Trainer`, as `minivae train --device cuda` has it.  See compare.py for what a factory is."""

from collections.abc import Callable
from typing import Any

import numpy as np
from minivae_peer import Given, load

import minivae as mv
from minivae.backend import gpu, use_precision
from minivae.cli.bench import LEARNING_RATE, Workload, objective, vae

REPEATS = 4  # of the batch in an epoch: the first step is eager, the second captured and judged, the rest replayed


def trainer_of(w: Workload, init: dict[str, np.ndarray], precision: str = "fp32") -> mv.Trainer:
    """The workload's model on the GPU with the common parameters, and who trains it."""
    model = vae(w, mv.Stream(0))
    load(model, init)
    kind = mv.objectives.Iwae(w.samples) if w.samples else mv.objectives.Elbo()
    config = mv.TrainingConfig(batch_size=w.batch, lr=LEARNING_RATE, precision=precision)
    return mv.Trainer(model.to("cuda"), config, kind)


def bytes_of(w: Workload, x: np.ndarray) -> Any:
    """The common images as a data set of bytes on the GPU, a few times over."""
    images = np.tile((255 * x).astype(np.uint8).reshape(len(x), *w.image), (REPEATS, 1, 1, 1))
    return gpu().asarray(images)


def contestant(replayed: bool, precision: str = "fp32") -> Callable[..., Any]:
    """A factory.  replayed: the step is one CUDA graph, launched once a step as Trainer.epoch does; else Trainer.step, kernel by kernel."""

    def factory(w: Workload, init: dict[str, np.ndarray], x: np.ndarray) -> tuple[Any, Any]:
        cupy, trainer = gpu(), trainer_of(w, init, precision)
        there = cupy.asarray(x.reshape(len(x), *w.image))
        initial = trainer.model.state()

        def loss(eps: np.ndarray) -> float:
            now = trainer.model.state()
            trainer.model.load_state(initial)
            with use_precision(precision):
                value = objective(w, trainer.model, there, Given(cupy.asarray(eps))).item()
            trainer.model.load_state(now)
            return value

        if replayed:
            trainer.epoch(bytes_of(w, x))
            if not trainer.on_gpu.graphs:
                raise RuntimeError(f"the step is no graph: {trainer.on_gpu.why_eager}")
            step = Step(trainer.on_gpu.graphs[0].launch)
        else:
            step = Step(lambda: trainer.step(there))
        return step, loss if precision == "fp32" else None  # TF32 is not to agree to the fifth digit

    return factory


class Step:
    """Once over the batch; `sync` waits until the GPU has done it."""

    def __init__(self, launch: Callable[[], Any]):
        self.launch = launch

    def __call__(self) -> None:
        self.launch()

    def sync(self) -> None:
        gpu().cuda.Device().synchronize()


eager = contestant(replayed=False)
graph = contestant(replayed=True)
graph_tf32 = contestant(replayed=True, precision="tf32")
