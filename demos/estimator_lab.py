r"""Five estimators of one gradient
===============================

The encoder is trained by a gradient of :math:`L_k = \mathbb{E}_{z_1 \dots z_k \sim q} \log \frac{1}{k} \sum_i w(z_i)`, where :math:`w(z) =
p(x, z) / q(z)`.  Training draws a few samples and takes an estimate.  Which estimates are unbiased, how much do they scatter, and what do
more samples do to them?  ``python demos/estimator_lab.py --out figures`` finds out.

The subject is a linear decoder with Gaussian noise, whose posterior is known, and an encoder that misses it by as much as we like.  Every
number that has an integral is an integral.
"""

import math
from functools import partial

import numpy as np
import stage

from minivae import Stream, plots
from minivae.evaluate.estimators import (
    LinearGaussian,
    closed_form_kl,
    doubly_reparameterized,
    moments,
    reparameterized,
    score_function,
    signal_to_noise,
    sticking_the_landing,
)

asked = stage.options(__doc__)
MODEL = LinearGaussian(np.array([[1.0, 0.5, -0.3]]), np.array([0.1, -0.2, 0.3]), 0.7)
X = np.array([[1.0, 0.3, -1.0]])
POSTERIOR_MEAN, POSTERIOR_VARIANCE = (a.reshape(1) for a in MODEL.posterior(X[0]))
BASELINE = -4.0  # near the ELBO
ESTIMATORS = {
    "score function": score_function,
    "score function, baseline": partial(score_function, baseline=BASELINE),
    "reparameterized": reparameterized,
    "closed-form KL": closed_form_kl,
    "sticking the landing": sticking_the_landing,
    "doubly reparameterized": doubly_reparameterized,
}
NODES = {1: 60, 2: 40}


def encoder(mismatch: float) -> tuple[np.ndarray, np.ndarray]:
    """mean and logvar of q: off by `mismatch` posterior standard deviations, and log sigma by as much."""
    return POSTERIOR_MEAN + mismatch * np.sqrt(POSTERIOR_VARIANCE), np.log(POSTERIOR_VARIANCE) + 2 * mismatch


# %%
# **Which are unbiased?**  The mean of an estimate is an integral over its noise.  The exact gradient of the ELBO is that of
# :math:`-\mathrm{KL}(q \,\|\, p(z \mid x))`, a closed form; that of :math:`L_2` is an integral as well.


def biases(mismatch: float, samples: int) -> dict[str, float]:
    """The largest |E g - gradient of L_k| over mean and logvar."""
    mean, logvar = encoder(mismatch)
    of = {name: moments(f, MODEL, X, mean, logvar, samples, NODES[samples]).mean for name, f in ESTIMATORS.items()}
    ratio = np.exp(logvar) / POSTERIOR_VARIANCE
    exact = [*(POSTERIOR_MEAN - mean) / POSTERIOR_VARIANCE, *(1 - ratio) / 2] if samples == 1 else of["reparameterized"]
    return {name: float(np.abs(found - exact).max()) for name, found in of.items()}


one, two = biases(0.3, 1), biases(0.3, 2)
for k, found in ((1, one), (2, two)):
    print(f"bias at k = {k}:\n" + "\n".join(f"    {name:<26}{bias:.0e}" for name, bias in found.items()))
stage.claim("all six are unbiased for the ELBO", max(one.values()) < 1e-10)
only_for_one = ("closed-form KL", "sticking the landing")
stage.claim("for two samples the others are, by quadrature", max(b for name, b in two.items() if name not in only_for_one) < 1e-7)
stage.claim("and sticking the landing is not", two["sticking the landing"] > 0.01)

# %%
# **How much do they scatter?**  Where q is the posterior, sticking the landing has no variance at all: every sample says the same.  Near it
# the others still scatter.


def variances(mismatches: np.ndarray, samples: int) -> dict[str, np.ndarray]:
    """Variance of the mean's and the logvar's estimate together, by quadrature; the unbiased ones for this bound."""
    leave_out = {"sticking the landing"} if samples == 1 else {"closed-form KL", "sticking the landing"}
    found = {}
    for name, f in ESTIMATORS.items():
        if name not in leave_out:
            each = [moments(f, MODEL, X, *encoder(d), samples, NODES[samples]).variance.sum() for d in mismatches]
            found[name + "\n= sticking the landing" if name == "doubly reparameterized" and samples == 1 else name] = np.array(each)
    return found


mismatches = np.geomspace(0.01, 1.0, stage.pick(asked, 5, 15, 15))
panels = {"one sample: the ELBO": variances(mismatches, 1), "two samples: $L_2$": variances(mismatches, 2)}
landed = moments(sticking_the_landing, MODEL, X, *encoder(0.0)).variance.max()
stage.claim("where q is the posterior, sticking the landing has no variance", landed < 1e-25)
near = {name: v[0] for name, v in panels["one sample: the ELBO"].items()}
stage.claim("near it the reparameterized gradient still scatters, 1,000 times as much", near["reparameterized"] > 1e3 * min(near.values()))
stage.claim("and the score function more than that", near["score function"] > near["reparameterized"])
stage.save(plots.estimator_variance(mismatches, panels), asked.out / "estimator_variance.png")

# %%
# **What do more samples do?**  The signal-to-noise ratio of the encoder's plain gradient falls as :math:`k^{-1/2}` (T. Rainforth et al.,
# 2018): the better the bound, the worse the gradient.  The decoder's rises as :math:`k^{1/2}`, and so does the encoder's when it is doubly
# reparameterized.


def slope(samples: np.ndarray, curve: np.ndarray) -> tuple[float, float]:
    """Of log SNR over log k where k >= 16, and its standard error over the blocks.     curve (blocks, len(samples))"""
    far = samples >= 16
    each = np.polyfit(np.log(samples[far]), np.log(curve[:, far]).T, 1)[0]
    return float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each)))


samples = 2 ** np.arange(0, *stage.pick(asked, (9, 2), (11, 1), (11, 1)))
rng, repetitions = Stream(asked.seed), stage.pick(asked, 100, 200, 2000)
blocks = [signal_to_noise(MODEL, X, *encoder(0.3), samples.tolist(), repetitions, rng) for _ in range(10)]
curves = {name: np.array([block[name] for block in blocks]) for name in blocks[0]}
for name, law in {"encoder, reparameterized": -0.5, "encoder, doubly reparameterized": 0.5, "decoder": 0.5}.items():
    found, error = slope(samples, curves[name])
    # 5 standard errors, and 0.05 for the terms of order k^-3/2 that the law, an asymptote, leaves out past k = 16
    stage.claim(f"SNR of {name}: slope {found:.3f} ± {error:.3f}, the law is {law:+g}", abs(found - law) < 5 * error + 0.05)
stage.save(plots.signal_to_noise(samples, curves), asked.out / "estimator_snr.png")
