"""What a trained model is good for: functions of a model and of images."""

from .anomaly import SCORES, anomaly_scores, bernoulli_floor, likelihood_regret, png_bits

__all__ = ["SCORES", "anomaly_scores", "bernoulli_floor", "likelihood_regret", "png_bits"]
