"""Alarms for two kinds of collapse.

Posterior collapse, of a model with an encoder: q(z | x) = p(z) for every image, the KL is zero, and the decoder draws one image for all.
Mode collapse, of a model without: what it makes is near few of the images held back.  Coverage is evaluate.precision_coverage's.

S. R. Bowman et al., "Generating sentences from a continuous space", 2016, section 3.1; J. Lucas et al., "Don't blame the ELBO!", 2019.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..data import to_float
from ..engine import no_grad
from ..errors import MinivaeError
from ..evaluate import precision_coverage
from ..models import activity, conditioned
from ..nn import evaluating
from ..random import Stream
from ..training.measures import like

SEEN = 1000  # images: the variance of their means, which active_units asks for, is then known to 5%
SILENT = 0.01  # nats
PATIENCE = 3  # epochs
LOST = 0.1  # coverage: as many real images as made ones have 0.87, at random


def measure(model: Any, images: np.ndarray, labels: np.ndarray | None, seed: int) -> dict[str, Any]:
    """{"active_units": how many, "latent_kl": nats of each}, on the first images, of what the model has: an autoencoder has no KL to
    report.  Of a model without an encoder {"precision", "coverage"} of as many of its samples, on pixels, with 3 neighbours."""
    if not hasattr(model, "encode"):
        return spread(model, images[: getattr(model, "looked_at", SEEN)], seed)
    with evaluating(model):
        known = conditioned(model, None if labels is None else labels[:SEEN])
        try:
            found = activity(known, like(model, to_float(images[:SEEN])), Stream(seed).split("noise of the alarm"))
        except MinivaeError:  # a posterior without a mean: there is nothing to count
            return {}
    units = {"active_units": int(found.active.sum())}
    return units if found.kl is None else units | {"latent_kl": [round(float(kl), 4) for kl in found.kl]}


def spread(model: Any, images: np.ndarray, seed: int) -> dict[str, float]:
    """{"precision", "coverage"} of as many samples as there are images; nothing for fewer than 5."""
    if len(images) < 5:
        return {}
    rng, made = Stream(seed).split("samples of the alarm"), []
    with no_grad(), evaluating(model):
        for start in range(0, len(images), 250):
            z = model.prior.sample(rng, min(250, len(images) - start), like=model.parameters()[0].data)
            made.append(model.decode(z).mean.numpy())
    precision, coverage = precision_coverage(np.concatenate(made), to_float(images), k=3)
    return {"precision": round(precision, 4), "coverage": round(coverage, 4)}


def alarm(lines: Sequence[dict[str, Any]]) -> str | None:
    """A sentence in the epoch that makes PATIENCE of them in a row in which no latent said anything, or a generator reached next to no
    image; lines of metrics.jsonl."""

    def silent(line: dict[str, Any]) -> bool:
        return "latent_kl" in line and max(line["latent_kl"]) < SILENT

    def narrow(line: dict[str, Any]) -> bool:
        return "coverage" in line and line["coverage"] < LOST

    if begins(lines, silent):
        return (
            f"the posterior has collapsed: the KL of each of the {len(lines[-1]['latent_kl'])} latents has been below {SILENT} nats for "
            f"{PATIENCE} epochs, and the decoder draws one image for all; lower beta, let it rise slowly (kl_warmup), or allow free bits"
        )
    if begins(lines, narrow):
        return (
            f"the generator has collapsed, or learns nothing: for {PATIENCE} epochs its images have been near less than {LOST:.0%} of the "
            f"test images, now {lines[-1]['coverage']:.1%}; lower the learning rate, raise penalty_weight, or let the critic see several "
            "images at a time (pack)"
        )
    return None


def begins(lines: Sequence[dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> bool:
    """Whether the last PATIENCE lines are the first of so many for which something holds."""
    last = lines[-PATIENCE:]
    return len(last) == PATIENCE and all(map(holds, last)) and not (len(lines) > PATIENCE and holds(lines[-PATIENCE - 1]))
