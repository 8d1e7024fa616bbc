"""A VAE whose reconstructions are judged by a critic's features instead of pixels, and whose decoder is a generator besides."""

from dataclasses import dataclass
from typing import Any, ClassVar

from .. import ops
from ..distributions import sample_and_kl
from ..engine import constant_of
from ..errors import UsageError
from ..models.gan import critic_of
from ..nn import Module, evaluating
from ..penalties import r1_penalty
from .base import Objective, occasionally, setting
from .gan import told


class Part(Module):
    """Some of a model's parameters as a player of their own: those whose names begin so."""

    def __init__(self, model: Module, *names: str):
        self.model, self.names = model, names

    def named_parameters(self) -> dict[str, Any]:
        return {name: p for name, p in self.model.named_parameters().items() if name.partition(".")[0] in self.names}


@dataclass(frozen=True)
class VaeGan(Objective):
    """Three players' losses; D is the critic's score, f its features, x~ = decode(z) with z ~ q(z | x), x_p = decode(z_p) with z_p ~ p(z).

        encoder    KL(q(z | x) || p(z)) + 1/2 |f(x) - f(x~)|^2
        decoder    feature_weight 1/2 |f(x) - f(x~)|^2 + softplus(-D(x~)) + softplus(-D(x_p))
        critic     softplus(-D(x)) + softplus(D(x~)) + softplus(D(x_p)), and R1 of its gradient

    Means over the batch.  Each has a gradient of its own loss alone, all at the weights before the step: the critic is not to learn to
    reconstruct, nor the encoder to deceive.  The reconstruction is -log N(f(x); f(x~), I) but for a constant: pixels are not asked.
    A. B. L. Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016, eq. 7-9 and algorithm 1; the decoder's
    loss is the non-saturating one, the features those before the critic's last layer.

    Reports: the KL, the distance of the features, and the shares of real and of made images that the critic takes for what they are.
    """

    name: ClassVar[str] = "vaegan"
    needs: ClassVar[tuple[str, ...]] = ("encode", "decode", "encoder", "decoder")
    occasions: ClassVar[tuple[str, ...]] = ("penalty",)

    feature_weight: float = setting(0.01, "weight of the reconstruction in the decoder's loss", 0)
    penalty_weight: float = setting(1.0, "weight of the penalty", 0)
    penalty_every: int = setting(4, "steps from one penalty to the next, which is weighted by as many", 1, "STEPS")
    lr_scale: float = setting(0.5, "the players' learning rates, as a share of the training's", 0)

    def players(self, model, rng):
        if hasattr(model, "condition"):
            raise UsageError("vaegan's critic sees no condition, and the model has one; train a vae")
        arch = getattr(model, "arch", "dense")
        opponent = critic_of(model.image_shape, rng.split("weights of the critic"), arch if arch == "conv" else "dense")
        others = sorted({name.partition(".")[0] for name in model.named_parameters()} - {"encoder"})
        return {"encoder": Part(model, "encoder"), "decoder": Part(model, *others), "critic": opponent}

    def optimizers(self):
        rule = {"optimizer": "adam", "betas": (0.5, 0.9), "scale": self.lr_scale}
        return {"encoder": rule, "decoder": rule, "critic": rule}

    def turns(self):
        turns = [("encoder", "decoder", "critic")]
        return occasionally(turns, self.penalty_every) if self.penalty_weight else turns

    def losses(self, players, batch, rng, progress):
        model, critic, x = players["encoder"].model, players["critic"], batch.x
        z, kl = sample_and_kl(model.encode(x), model.prior, rng)
        again, fresh = model.decode(z).mean, model.decode(model.prior.sample(rng, len(x), like=x)).mean
        (f, real), (f_again, of_again), (_, of_fresh) = (features_and_score(critic, images) for images in (x, again, fresh))
        apart = ops.square(f - f_again).sum(axis=1) * 0.5
        found = {
            "encoder": (kl + apart).mean(),
            "decoder": apart.mean() * self.feature_weight + ops.softplus(-of_again).mean() + ops.softplus(-of_fresh).mean(),
            "critic": ops.softplus(-real).mean() + ops.softplus(of_again).mean() + ops.softplus(of_fresh).mean(),
        }
        if "penalty" in progress.turn:
            with evaluating(critic):
                found["critic"] = found["critic"] + r1_penalty(critic, x, self.penalty_weight * self.penalty_every)
        right = constant_of(told, real.data, of_fresh.data, 0.0)
        return found, {"kl": kl, "features": apart, "critic_real": right[0], "critic_made": right[1]}

    def summary(self, measures):
        return (
            f"= {measures['features']:.2f} + {measures['kl']:.2f}, critic right on {measures['critic_real']:.2f} of real, "
            f"{measures['critic_made']:.2f} of made images"
        )


def features_and_score(critic: Any, x: Any) -> tuple[Any, Any]:
    """What the critic's last layer is given, in rows, and what it makes of it.     (N, ...) -> (N, F), (N, 1)"""
    h = x
    for layer in critic.layers[:-1]:
        h = layer(h)
    return h, critic.layers[-1](h)
