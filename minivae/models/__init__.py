"""Models: one generative story a file."""

from typing import Any

from ..errors import UsageError
from ..random import Stream
from .activity import Activity, active_units, activity
from .ae import AE, Delta
from .cvae import CVAE, PRIORS
from .hierarchical import HierarchicalVAE
from .networks import ARCHITECTURES, critic
from .vae import HEADS, LIKELIHOODS, VAE
from .walks import attribute_direction, lerp, slerp, traversal

__all__ = [
    "AE",
    "ARCHITECTURES",
    "CVAE",
    "HEADS",
    "LIKELIHOODS",
    "MODELS",
    "PRIORS",
    "VAE",
    "Activity",
    "Delta",
    "HierarchicalVAE",
    "active_units",
    "activity",
    "attribute_direction",
    "build",
    "conditioned",
    "critic",
    "description",
    "lerp",
    "slerp",
    "traversal",
]

MODELS: dict[str, type[VAE]] = {"vae": VAE, "ae": AE, "cvae": CVAE, "hierarchical": HierarchicalVAE}


def build(description: dict[str, Any], rng: Stream) -> VAE:
    """The model of {"model": one of MODELS, **its arguments}; without a name, a VAE.  Raises UsageError."""
    name = description.get("model", "vae")
    if name not in MODELS:
        raise UsageError(f"model {name!r} is unknown; choose one of {', '.join(MODELS)}")
    return MODELS[name](rng=rng, **{key: value for key, value in description.items() if key != "model"})


def description(model: VAE) -> dict[str, Any]:
    """What `build` makes the same architecture of."""
    name = next((name for name, kind in MODELS.items() if type(model) is kind), None)
    if name is None:
        raise UsageError(f"{type(model).__name__} is not in models.MODELS, so no checkpoint could make it again; add it there")
    return {"model": name, **model.config()}


def conditioned(model: Any, c: Any) -> Any:
    """The model told of c, if there is anything to tell."""
    return model if c is None else model.condition(c)
