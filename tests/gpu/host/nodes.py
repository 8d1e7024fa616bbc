"""The nodes of a captured training step, counted without a GPU: nothing is launched."""

import numpy as np

from minivae.backend import one
from minivae.cli.bench import LEARNING_RATE, vae
from minivae.kernels.gpu.launcher import Kernel
from minivae.objectives import Elbo, Iwae
from minivae.random import Stream
from minivae.training import Trainer, TrainingConfig
from minivae.training.graph import DeviceEpochs


def captured_nodes(cupy, w, **config):
    """(names of the library's kernels, names of CuPy's own operations) in the graph of a step of the workload, in their order.

    cupy    the stand-in, which is installed
    """
    objective = Iwae(w.samples) if w.samples else Elbo()
    trainer = Trainer(vae(w, Stream(0)).to("cuda"), TrainingConfig(batch_size=w.batch, lr=LEARNING_RATE, **config), objective)
    epochs = DeviceEpochs(trainer)
    epochs.upload(cupy.asarray(np.zeros((w.batch, *w.image), np.uint8)), [np.arange(w.batch)])
    one(cupy.zeros((), np.float32))  # as the eager step before it does
    graph = epochs.capture(trainer.turns[0]).graph
    names = [operation.run.__name__ for operation in graph.operations if operation.node]
    return [name for name in names if name in Kernel.registry], [name for name in names if name not in Kernel.registry]
