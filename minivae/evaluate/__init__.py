"""Judging a trained model."""

from ..models import active_units
from . import estimators
from .attributes import slant, thickness
from .auroc import Auroc, auroc
from .disentanglement import DCI, dci, mig, mutual_information, sap
from .finite import best_noise
from .gaps import Gaps, best_gaussian, inference_gaps
from .interventions import beta_vae_score, factor_vae_score
from .layers import LayerCosts, layer_costs
from .likelihood import log_likelihood, log_likelihoods
from .neighbours import nearest, precision_coverage
from .quality import Likeness, frechet_distance, likeness, mode_count, sharpness, stacked
from .restoration import GaussianImages, neighbours_mean, psnr
from .roles import Readings, Role, appearance, correlation_ratio, readings, roles
from .structure import blocking, ms_ssim, ssim
from .surgery import Surgery, elbo_surgery

__all__ = [
    "DCI",
    "Auroc",
    "Gaps",
    "GaussianImages",
    "LayerCosts",
    "Likeness",
    "Readings",
    "Role",
    "Surgery",
    "active_units",
    "appearance",
    "auroc",
    "best_gaussian",
    "best_noise",
    "beta_vae_score",
    "blocking",
    "correlation_ratio",
    "dci",
    "elbo_surgery",
    "estimators",
    "factor_vae_score",
    "frechet_distance",
    "inference_gaps",
    "layer_costs",
    "likeness",
    "log_likelihood",
    "log_likelihoods",
    "mig",
    "mode_count",
    "ms_ssim",
    "mutual_information",
    "nearest",
    "neighbours_mean",
    "precision_coverage",
    "psnr",
    "readings",
    "roles",
    "sap",
    "sharpness",
    "slant",
    "ssim",
    "stacked",
    "thickness",
]
