"""What a trained model is good for: functions of a model and of images."""

from .anomaly import SCORES, anomaly_scores, bernoulli_floor, likelihood_regret, png_bits
from .codes import draw_codes, telling
from .colorize import Colourings, colorize
from .denoise import Noisy, denoise, estimate_noise
from .inpaint import Chain, Missing, gibbs, inpaint
from .masks import MASKS, named_mask
from .posterior import Observation, Restored, fit_posterior, restore

__all__ = [
    "MASKS",
    "SCORES",
    "Chain",
    "Colourings",
    "Missing",
    "Noisy",
    "Observation",
    "Restored",
    "anomaly_scores",
    "bernoulli_floor",
    "colorize",
    "denoise",
    "draw_codes",
    "estimate_noise",
    "fit_posterior",
    "gibbs",
    "inpaint",
    "likelihood_regret",
    "named_mask",
    "png_bits",
    "restore",
    "telling",
]
