"""Richer priors and richer posteriors: which of the two pays
==========================================================

The ELBO is below log p(x) by :math:`\\mathrm{KL}(q(z \\mid x) \\| p(z \\mid x))`, and log p(x) is what it is by the prior among others.
Both can be made richer.  *VampPrior* (J. M. Tomczak and M. Welling, 2018) makes the prior a mixture of what the encoder makes of learned
images.  A *normalizing flow* (D. J. Rezende and S. Mohamed, 2015) bends q.  ``python demos/priors.py --out figures``; with ``--full`` a
training that was cut goes on where it stood.
"""

import numpy as np
import stage

from minivae import VAE, Stream, data, inference, no_grad, plots
from minivae.applications import inpaint, likelihood_regret
from minivae.applications.anomaly import bounds_of
from minivae.evaluate import elbo_surgery
from minivae.models import FlowVAE, HierarchicalVAE, HierarchicalVampVAE, VampVAE

asked = stage.options(__doc__)
digits = stage.digits(asked)
root = Stream(asked.seed)
epochs, hidden, batch, lr = stage.pick(asked, (10, (100,), 64, 2e-3), (40, (300,), 64, 1e-3), (100, (300, 300), 100, 1e-3))
count, samples = stage.pick(asked, (150, 50), (500, 200), (2000, 500))
settings = {"batch_size": batch, "lr": lr, "lr_schedule": "cosine" if asked.full else "constant", "seed": asked.seed, "binarize": True}


def trained(model: VAE, name: str, epochs: int = epochs) -> VAE:
    stage.train(model, digits.train_images, epochs, name=name, file=stage.kept(asked, f"priors {name}"), **settings)
    return model


def bound(model: VAE) -> np.ndarray:
    """log p(x) of test images made black and white, by importance samples: (N,) nats."""
    return inference.bound(model, digits.test_images[:count], root.split("bound"), samples, binarized=root.split("bits"))


# %%
# The prior
# ---------
# The best prior for the ELBO is the aggregate posterior, the mean of q(z | x) over the training images: then only the mutual information is
# left of the KL.  How much is there to gain?  The surgery of a plain VAE says it: all but the first part.

latent = stage.pick(asked, 20, 40, 40)
plain = trained(VAE(digits.image_shape, root.split("weights"), latent=latent, hidden=hidden), "N(0, I)")
vamp = VampVAE(digits.image_shape, root.split("weights"), latent=latent, hidden=hidden, pseudo=stage.pick(asked, 50, 200, 500))
trained(vamp, "VampPrior")
with no_grad():
    x = data.binarize(data.to_float(digits.train_images[: stage.pick(asked, 1000, 2000, 5000)]), root.split("bits of the surgery"))
    q = plain.encode(x)
cut = elbo_surgery(q.mean.numpy().astype(np.float64), q.logvar.numpy().astype(np.float64), root.split("surgery"), 1)
rest = cut.total_correlation + cut.dimension_kl.sum()
print(f"N(0, I): KL {cut.kl:.2f} = information {cut.mutual_information:.2f} + what a better prior could save, {rest:.2f} nats at most")
values = {"N(0, I)": bound(plain), "VampPrior": bound(vamp)}
gain = values["VampPrior"] - values["N(0, I)"]
error = gain.std() / np.sqrt(count)
for name, found in values.items():
    print(f"{name:10s} -log p(x) <= {-found.mean():.2f} nats")
stage.claim(
    f"the VampPrior is ahead by {gain.mean():.2f} +- {error:.2f} nats, at least 1 and no more than {rest:.1f}", 1 < gain.mean() < rest
)

# %%
# Two stochastic layers have a learned prior already, p(z1 | z2); what is left at the top can be a VampPrior as well, of pseudo-codes.

for name, kind, extra in (
    ("two layers", HierarchicalVAE, {}),
    ("two layers, VampPrior", HierarchicalVampVAE, {"pseudo": stage.pick(asked, 50, 200, 500)}),
):
    model = kind(digits.image_shape, root.split("weights"), latent=latent, top=latent // 2, between=hidden[:1], hidden=hidden, **extra)
    values[name] = bound(trained(model, name))
    print(f"{name:21s} -log p(x) <= {-values[name].mean():.2f} nats")
gain = values["two layers, VampPrior"] - values["two layers"]
error = gain.std() / np.sqrt(count)
text = f"above two layers the VampPrior is ahead by {gain.mean():.2f} +- {error:.2f} nats"
if asked.tiny:  # too short a training for what is left to gain there
    print(text)
else:
    stage.claim(text, gain.mean() > 2 * error)

# %%
# What the prior is made of: pseudo-inputs, which only the encoder can read, and what their codes decode to; and draws of both models.

pseudo = (1 / (1 + np.exp(-vamp.pseudo_inputs.data[:24]))).astype(np.float32)
parts = {
    name: images.reshape(4, -1, *digits.image_shape)
    for name, images in {
        "pseudo-inputs": pseudo.reshape(4, 6, -1)[:, :3],  # of the first three columns beside them
        "decoded": inference.reconstruct(vamp, pseudo),
        "drawn with N(0, I)": inference.sample(plain, root.split("draws"), 24),
        "drawn with the VampPrior": inference.sample(vamp, root.split("draws"), 24),
    }.items()
}
stage.save(plots.groups(parts, "A prior of learned images"), asked.out / "vamp.png")

# %%
# The posterior
# -------------
# Two latents, so that many importance samples know log p(x).  How far is the ELBO below?  A flow makes the *family* of q richer.  But the
# gap of an encoder is mostly *amortization*: a Gaussian would do, it stands in the wrong place.  A flow does not move that.  Fitting the
# Gaussian to each image, a hundred steps from where the encoder put it, does.

some = data.to_float(digits.test_images[: stage.pick(asked, 60, 200, 500)])
bits = data.binarize(some, root.split("bits of the gaps"))
whole = np.ones(digits.image_shape, bool)  # no pixel is missing
gaps = {}
for name, flow in (("Gaussian", ""), ("planar flow", "planar"), ("coupling flow", "coupling")):
    options = {"latent": 2, "hidden": hidden}
    model = (
        FlowVAE(digits.image_shape, root.split("weights"), flow=flow, **options)
        if flow
        else VAE(digits.image_shape, root.split("weights"), **options)
    )
    trained(model, name, stage.pick(asked, 20, 40, 20))
    # the encoder's own samples miss what it misses: log p(x) is weighed by Gaussians that were fitted to each image, from several starts
    log_p = inpaint(model, bits, whole, root.split("log p"), samples=stage.pick(asked, 600, 1200, 1200), starts=3).log_evidence
    found = bounds_of(model, bits, root.split("elbo"), 200)
    gaps[name] = log_p + found.elbo
    print(f"{name:14s} log p(x) {log_p.mean():.2f}, -ELBO {found.elbo.mean():.2f}, gap {gaps[name].mean():.2f} nats")
    if not flow:
        refined = gaps[name] - likelihood_regret(model, bits, root.split("refined"), 100, samples=200)
        print(f"{'refined':14s} gap {refined.mean():.2f} nats")
best = min(gaps["planar flow"].mean(), gaps["coupling flow"].mean())
share = 1 - refined.mean() / gaps["Gaussian"].mean()
stage.claim(f"a hundred steps for each image close {share:.0%} of the Gaussian's gap, at least a third", share > 1 / 3)
stage.claim(
    f"the gap that is left, {refined.mean():.2f} nats, is smaller than with either flow, {best:.2f} nats at best", refined.mean() < best
)
