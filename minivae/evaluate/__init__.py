"""Judging a trained model."""

from .disentanglement import DCI, dci, mig, mutual_information, sap
from .interventions import beta_vae_score, factor_vae_score
from .likelihood import active_units, log_likelihood

__all__ = ["DCI", "active_units", "beta_vae_score", "dci", "factor_vae_score", "log_likelihood", "mig", "mutual_information", "sap"]
