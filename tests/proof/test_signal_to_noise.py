"""What more samples do to an IWAE gradient: the encoder's signal-to-noise ratio falls with k^-1/2, the decoder's rises with k^1/2.

T. Rainforth et al., "Tighter variational bounds are not necessarily better", 2018, theorem 1; G. Tucker et al. 2019 for the repair.
"""

import numpy as np
import pytest
import scipy.stats

from minivae import Stream
from minivae.evaluate import estimators
from minivae.evaluate.estimators import LinearGaussian, moments, reparameterized, signal_to_noise

from .bounds import ALARM

LAWS = {"encoder, reparameterized": -0.5, "encoder, doubly reparameterized": 0.5, "decoder": 0.5}
K = [16, 64, 256]
BLOCKS = 30


def mistake():
    """q is 0.4 sigma off and wider than the posterior, so that all moments of the weights are finite."""
    model = LinearGaussian(np.array([[1.0, -0.5]]), np.array([0.2, 0.1]), 0.8)
    x = np.array([[1.0, 0.5]])
    mean, covariance = model.posterior(x[0])
    return model, x, mean + 0.4 * np.sqrt(covariance[0]), np.log(covariance[0]) + 0.5


def slopes(repetitions=60):
    """{name: (slope of log SNR over log k, its standard error)} from independent blocks."""
    rng = Stream(1)
    runs = [signal_to_noise(*mistake(), K, repetitions, rng) for _ in range(BLOCKS)]
    found = {name: np.polyfit(np.log(K), np.log([run[name] for run in runs]).T, 1)[0] for name in LAWS}
    return {name: (each.mean(), each.std(ddof=1) / np.sqrt(BLOCKS)) for name, each in found.items()}


def within(found, law):
    """Student's t for false alarms of 1e-6 over the three laws, as far as slopes of blocks are normal; and 0.03, for the next term of
    log SNR, of order 1 / k: at most 1 / 16 here, and of that a line over log 16 takes half.  Power: it resolves a slope of 0.3 from 0.5."""
    slope, error = found
    allowed = scipy.stats.t.isf(ALARM / 6, BLOCKS - 1) * error + 0.03
    return allowed < 0.1 and abs(slope - law) < allowed


def test_the_slopes_are_those_of_the_theorem():
    found = slopes()
    assert all(within(found[name], law) for name, law in LAWS.items()), found
    assert not within(found["encoder, reparameterized"], 0.0)
    assert not within(found["decoder"], 0.0)


def test_a_repair_that_leaves_a_score_function_in_is_found(monkeypatch):
    """Doubly reparameterized that is not: the same estimate as the plain one."""
    monkeypatch.setattr(estimators, "doubly_reparameterized", reparameterized)
    assert not within(slopes()["encoder, doubly reparameterized"], 0.5)


def test_at_one_sample_the_ratio_is_the_integrals():
    model, x, mean, logvar = mistake()
    exact = moments(reparameterized, model, x, mean, logvar)
    wanted = np.linalg.norm(exact.mean) / np.sqrt(exact.variance.sum())
    found = signal_to_noise(model, x, mean, logvar, [1], 40_000, Stream(2))["encoder, reparameterized"][0]
    assert found == pytest.approx(wanted, rel=0.05)
