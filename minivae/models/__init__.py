"""Models: one generative story a file."""

import inspect
from typing import Any

from ..errors import UsageError
from ..naming import class_at, path_of
from ..random import Stream
from .activity import Activity, active_units, activity
from .ae import AE
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
    "HierarchicalVAE",
    "active_units",
    "activity",
    "attribute_direction",
    "build",
    "conditioned",
    "critic",
    "describe",
    "lerp",
    "slerp",
    "traversal",
]

MODELS: dict[str, type[VAE]] = {"vae": VAE, "ae": AE, "cvae": CVAE, "hierarchical": HierarchicalVAE}


def build(description: dict[str, Any], rng: Stream) -> Any:
    """The model of {"model": one of MODELS, or a class's path, **its arguments}; without a name, a VAE.  Raises UsageError."""
    name = description.get("model", "vae")
    arguments = {key: value for key, value in description.items() if key != "model"}
    if ":" in name:
        instead = "pass an instance to fill: mv.load(path, model)"
        kind = class_at(name, instead)
        needs = inspect.signature(kind).parameters
        if "rng" in needs:
            arguments["rng"] = rng
        missing = [p.name for p in needs.values() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        missing = sorted(set(missing) - arguments.keys())
        if missing:
            raise UsageError(f"{name} takes {', '.join(missing)}, and has no method config() that tells them; give it one, or {instead}")
        return kind(**arguments)
    if name not in MODELS:
        raise UsageError(f"model {name!r} is unknown; choose one of {', '.join(MODELS)}")
    return MODELS[name](rng=rng, **arguments)


def describe(model: Any) -> dict[str, Any]:
    """What `build` makes the same architecture of, by the model's config() where it has one."""
    name = next((name for name, kind in MODELS.items() if type(model) is kind), None) or path_of(type(model))
    own = getattr(model, "arch", "") == "own" and name in MODELS  # networks of somebody's own, which no argument makes again
    return {"model": path_of(type(model))} if own else {"model": name} | (model.config() if hasattr(model, "config") else {})


def conditioned(model: Any, c: Any) -> Any:
    """The model of data of which c is known, if c is and the model has a condition."""
    return model.condition(c) if c is not None and hasattr(model, "condition") else model
