"""Models: one generative story a file."""

import inspect
from typing import Any

from ..errors import UsageError
from ..naming import class_at, path_of
from ..nn import Module
from ..random import Stream
from .activity import Activity, active_units, activity
from .ae import AE
from .classifier import Classifier
from .codec import Codec, Factorized
from .cvae import CVAE, PRIORS
from .diffusion import Diffusion, level_frequencies
from .flow import FLOWS, FlowVAE
from .gan import GAN
from .hierarchical import HierarchicalVAE
from .hierarchical_vamp import HierarchicalVampVAE
from .likelihoods import LIKELIHOODS
from .m2 import M2
from .mixture_cvae import MixtureCVAE
from .networks import ARCHITECTURES, critic
from .pretrained import EncoderClassifier
from .residual_gru import ProgressiveCodec
from .vae import HEADS, VAE
from .vamp import VampVAE
from .vq import VQVAE, Codebook, perplexity
from .walks import attribute_direction, lerp, slerp, traversal

__all__ = [
    "AE",
    "ARCHITECTURES",
    "CVAE",
    "FLOWS",
    "GAN",
    "HEADS",
    "LIKELIHOODS",
    "M2",
    "MODELS",
    "PRIORS",
    "VAE",
    "VQVAE",
    "Activity",
    "Classifier",
    "Codebook",
    "Codec",
    "Diffusion",
    "EncoderClassifier",
    "Factorized",
    "FlowVAE",
    "HierarchicalVAE",
    "HierarchicalVampVAE",
    "MixtureCVAE",
    "ProgressiveCodec",
    "VampVAE",
    "active_units",
    "activity",
    "attribute_direction",
    "build",
    "conditioned",
    "critic",
    "describe",
    "lerp",
    "level_frequencies",
    "perplexity",
    "slerp",
    "traversal",
]

MODELS: dict[str, type[Module]] = {
    "vae": VAE,
    "ae": AE,
    "cvae": CVAE,
    "hierarchical": HierarchicalVAE,
    "hierarchical_vamp": HierarchicalVampVAE,
    "vamp": VampVAE,
    "flow": FlowVAE,
    "vq": VQVAE,
    "m2": M2,
    "gan": GAN,
    "diffusion": Diffusion,
}


def build(description: dict[str, Any], rng: Stream) -> Any:
    """The model of {"model": one of MODELS, or a class's path, **its arguments}; without a name, a VAE.  Raises UsageError."""
    name = description.get("model", "vae")
    arguments = {key: value for key, value in description.items() if key != "model"}
    if ":" in name:
        instead = "pass an instance to fill: mv.load(path, model)"
        kind = class_at(name, instead, Module)
        needs = inspect.signature(kind).parameters
        unknown = sorted(needs.keys() - {"rng"}) if not _tells_all(kind) else []
        if unknown:
            raise UsageError(f"{name} takes {', '.join(unknown)}, and has no method config() that returns them; give it one, or {instead}")
        if "rng" in needs:
            arguments["rng"] = rng
        try:
            inspect.signature(kind).bind(**arguments)
        except TypeError as error:
            raise UsageError(f"{name} cannot be made from what its config() returned ({error}); mend that, or {instead}") from error
        return kind(**arguments)
    if name not in MODELS:
        raise UsageError(f"model {name!r} is unknown; choose one of {', '.join(MODELS)}")
    try:
        inspect.signature(MODELS[name]).bind(rng=rng, **arguments)
    except TypeError as error:
        raise UsageError(f"the model {name} cannot be made of {', '.join(arguments)}: {error}; leave out what it does not take") from error
    made: Any = MODELS[name]
    return made(rng=rng, **arguments)


def describe(model: Any) -> dict[str, Any]:
    """What `build` makes the same architecture of: a name or the path of a class, and the arguments that its config() returns.

    Without arguments where nobody knows them: there is no config(), or the networks are somebody's own."""
    kind = type(model)
    name = next((name for name, known in MODELS.items() if known is kind), None) or path_of(kind)
    if getattr(model, "arch", "") == "own":
        return {"model": path_of(kind)}
    return {"model": name} | (model.config() if _tells_all(kind) else {})


def _tells_all(kind: type) -> bool:
    """Whether config() tells every argument of the class: an inherited one does not know those of an __init__ that came later."""
    config, init = (next((i for i, k in enumerate(kind.__mro__) if name in vars(k)), None) for name in ("config", "__init__"))
    return config is not None and init is not None and config <= init


def conditioned(model: Any, c: Any) -> Any:
    """The model of data of which c is known, if c is and the model has a condition."""
    return model.condition(c) if c is not None and hasattr(model, "condition") else model
