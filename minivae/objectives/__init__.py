"""Objectives: what training minimises, one a file."""

from .base import Objective, Progress, Terms, as_objective, kl_scale, setting, trained
from .capacity import Capacity
from .denoising import Denoising
from .elbo import Elbo, elbo, regularizer
from .factor import Factor, shuffle_latents
from .free_bits import FreeBits
from .iwae import Iwae, iwae
from .tc import Parts, TotalCorrelation, minibatch_parts
from .vq import VectorQuantization

__all__ = [
    "OBJECTIVES",
    "Capacity",
    "Denoising",
    "Elbo",
    "Factor",
    "FreeBits",
    "Iwae",
    "Objective",
    "Parts",
    "Progress",
    "Terms",
    "TotalCorrelation",
    "VectorQuantization",
    "as_objective",
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
    o.name: o for o in (Elbo, Iwae, TotalCorrelation, Factor, Capacity, FreeBits, Denoising, VectorQuantization)
}
