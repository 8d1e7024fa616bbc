"""Objectives: what training minimises, one a file."""

from typing import Any

from ..models import describe
from .base import Objective, Progress, Terms, as_objective, kl_scale, setting, trained
from .capacity import Capacity
from .classify import CrossEntropy
from .denoising import Denoising
from .diffusion import NoisePrediction
from .elbo import Elbo, elbo, regularizer
from .factor import Factor, shuffle_latents
from .free_bits import FreeBits
from .gan import Gan
from .iwae import Iwae, iwae
from .m2 import SemiSupervised
from .progressive import Progressive
from .rate_distortion import RateDistortion
from .tc import Parts, TotalCorrelation, minibatch_parts
from .vaegan import VaeGan
from .vq import VectorQuantization

__all__ = [
    "OBJECTIVES",
    "Capacity",
    "CrossEntropy",
    "Denoising",
    "Elbo",
    "Factor",
    "FreeBits",
    "Gan",
    "Iwae",
    "NoisePrediction",
    "Objective",
    "Parts",
    "Progress",
    "Progressive",
    "RateDistortion",
    "SemiSupervised",
    "Terms",
    "TotalCorrelation",
    "VaeGan",
    "VectorQuantization",
    "as_objective",
    "default_objective",
    "elbo",
    "iwae",
    "kl_scale",
    "minibatch_parts",
    "regularizer",
    "setting",
    "shuffle_latents",
    "trained",
]

OBJECTIVES: dict[str, type[Objective]] = {
    o.name: o
    for o in (
        Elbo,
        Iwae,
        TotalCorrelation,
        Factor,
        Capacity,
        FreeBits,
        Gan,
        VaeGan,
        NoisePrediction,
        Denoising,
        VectorQuantization,
        SemiSupervised,
    )
}


def default_objective(model: Any) -> Objective:
    """What a model, or one of this name, is trained by where nobody says otherwise."""
    name = model if isinstance(model, str) else describe(model)["model"]
    return next((kind() for kind in OBJECTIVES.values() if name in kind.default_for), Elbo())
