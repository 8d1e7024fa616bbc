"""The losses of a model, without a gradient."""

from typing import Any

import numpy as np

from ..backend import to_device, xp
from ..data import Batch, batch_indices, binarize, to_float
from ..engine import no_grad
from ..nn import evaluating
from ..objectives import Objective, as_objective, default_objective, trained
from ..random import Stream
from .measures import Sums, like_array, mean


def losses(
    model: Any,
    images: np.ndarray,
    seed: int = 0,
    objective: Objective | Any = None,
    labels: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    batch_size: int | None = None,
    binarized: bool = False,
    players: dict[str, Any] | None = None,
    size: int | None = None,
) -> dict[str, float]:
    """Means over the images of the loss and of what the objective reports, in nats: of reconstruction + KL with one sample of z an image,
    or of another objective.     images (N, ...), labels and masks (N, ...)

    The noise, and the bits of images that are to be binarized, depend on the seed and the batch size alone: the same model has the same
    loss.  players    the objective's, where the model is not all of them (a Trainer's `players`);  size    images in the training data
    """
    objective = as_objective(objective or default_objective(model))
    players = {"model": model} if players is None else players
    first = next(iter(players))
    root, sums = Stream(seed), Sums()
    noise, bits = root.split("noise of the evaluation"), root.split("bits of the evaluation")
    order = root.split("order of the other images of the evaluation").permutation(len(images)) if objective.second_batch else None
    progress = trained(len(images) if size is None else size, (first,))
    own = model.parameters()[0].data
    progress = progress._replace(epochs=to_device(progress.epochs, "cpu" if xp(own) is np else "cuda"))
    few = min(batch_size or objective.evaluation_batch(500), max(len(images), 1))
    with no_grad(), evaluating(*players.values()):
        for at in batch_indices(len(images), few):

            def part(at: Any) -> Batch:
                x = like_array(own, to_float(images[at]))
                x = binarize(x, bits) if binarized else x
                return Batch(x, None if labels is None else labels[at], None if masks is None else masks[at])

            batch = part(at)
            if order is not None:
                batch = batch._replace(other=part(order[at]))
            found, reports = objective.losses(players, batch, noise, progress)
            sums.add(len(batch.x), {"loss": found[first].item()} | {name: mean(values) for name, values in reports.items()})
    return sums.means()
