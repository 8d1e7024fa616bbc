"""The alarm for posterior collapse: q(z | x) = p(z) for every image, the KL is zero, and the decoder draws one image for all.

S. R. Bowman et al., "Generating sentences from a continuous space", 2016, section 3.1; J. Lucas et al., "Don't blame the ELBO!", 2019.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data import to_float
from ..errors import MinivaeError
from ..models import activity, conditioned
from ..nn import evaluating
from ..random import Stream
from ..training.measures import like

SEEN = 1000  # images: the variance of their means, which active_units asks for, is then known to 5%
SILENT = 0.01  # nats
PATIENCE = 3  # epochs


def measure(model: Any, images: np.ndarray, labels: np.ndarray | None, seed: int) -> dict[str, Any]:
    """{"active_units": how many, "latent_kl": nats of each}, on the first images, of what the model has: an autoencoder has no KL to
    report, a generator without an encoder nothing."""
    if not hasattr(model, "encode"):
        return {}
    with evaluating(model):
        known = conditioned(model, None if labels is None else labels[:SEEN])
        try:
            found = activity(known, like(model, to_float(images[:SEEN])), Stream(seed).split("noise of the alarm"))
        except MinivaeError:  # a posterior without a mean: there is nothing to count
            return {}
    units = {"active_units": int(found.active.sum())}
    return units if found.kl is None else units | {"latent_kl": [round(float(kl), 4) for kl in found.kl]}


def alarm(lines: Sequence[dict[str, Any]]) -> str | None:
    """A sentence in the epoch that makes PATIENCE of them in a row in which no latent said anything; lines of metrics.jsonl."""

    def silent(line: dict[str, Any]) -> bool:
        return "latent_kl" in line and max(line["latent_kl"]) < SILENT

    last = lines[-PATIENCE:]
    if len(last) < PATIENCE or not all(map(silent, last)) or (len(lines) > PATIENCE and silent(lines[-PATIENCE - 1])):
        return None
    return (
        f"the posterior has collapsed: the KL of each of the {len(last[-1]['latent_kl'])} latents has been below {SILENT} nats for "
        f"{PATIENCE} epochs, and the decoder draws one image for all; lower beta, let it rise slowly (kl_warmup), or allow free bits"
    )
