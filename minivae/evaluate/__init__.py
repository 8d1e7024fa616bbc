"""Judging a trained model."""

from .likelihood import active_units, log_likelihood

__all__ = ["active_units", "log_likelihood"]
