"""A VAE whose q(z | x) is a Gaussian bent by a normalizing flow: posteriors with corners and several modes are within its reach.

What it cannot mend is an encoder that finds the wrong place: `demos/priors.py` tells the two gaps apart.
"""

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..distributions import Coupling, Flow, Gaussian, Planar
from ..errors import ShapeError, UsageError
from ..random import Stream
from .networks import mlp
from .vae import VAE

FLOWS = ("planar", "coupling")


class FlowVAE(VAE):
    """q(z | x) = Flow(Gaussian, maps).

    flow          "planar": u, w and b of each map are the encoder's; "coupling": each map is a network of half of z and of a context that
                  the encoder makes, K numbers
    flow_layers   maps
    flow_hidden   units of a coupling's network
    options       the VAE's
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        rng: Stream,
        latent: int = 20,
        flow: str = "planar",
        flow_layers: int = 4,
        flow_hidden: int = 50,
        **options: Any,
    ):
        if flow not in FLOWS:
            raise UsageError(f"flow {flow!r} is unknown; choose one of {', '.join(FLOWS)}")
        if flow_layers < 1 or flow_hidden < 1 or (flow == "coupling" and latent < 2):
            raise UsageError(
                f"FlowVAE: flow_layers is {flow_layers}, flow_hidden {flow_hidden}, latent {latent}; need 1 each, and 2 latents to couple"
            )
        self.flow, self.flow_layers, self.flow_hidden = flow, flow_layers, flow_hidden
        # b of a planar map is the mean of K outputs, so that an encoder's outputs are so many a latent
        self.parameters_each = 2 + 3 * flow_layers if flow == "planar" else 3
        super().__init__(image_shape, rng, latent=latent, **options)
        self.links: list[Any] = []
        if flow == "coupling":
            stays = latent // 2
            self.links = [mlp((stays + latent, flow_hidden, 2 * (latent - stays)), rng, self.activation) for _ in range(flow_layers)]

    def config(self) -> dict[str, Any]:
        return super().config() | {"flow": self.flow, "flow_layers": self.flow_layers, "flow_hidden": self.flow_hidden}

    def posterior(self, parameters: Any) -> Flow:
        wanted = self.parameters_each * self.latent
        if parameters.ndim != 2 or parameters.shape[1] != wanted:
            raise ShapeError(f"FlowVAE: the encoder gives {parameters.shape} for {self.latent} latents; need (N, {wanted})")
        mean, second, *rest = ops.split(parameters, self.parameters_each)
        base = Gaussian(mean, second) if self.head == "logvar" else Gaussian.from_log_sigma(mean, second)
        if self.flow == "planar":
            maps: list[Any] = [Planar(u, w, b.mean(axis=-1, keepdims=True)) for u, w, b in zip(*[iter(rest)] * 3, strict=True)]
        else:
            maps = [Coupling(self.linked(i, rest[0]), swapped=i % 2 == 1) for i in range(self.flow_layers)]
        return Flow(base, maps)

    def linked(self, i: int, context: Any) -> Any:
        """a -> s, t of map i, with |s| < 2: a step that grows without bound is of no use, and overflows."""

        def link(a: Any) -> tuple[Any, Any]:
            known = ops.broadcast_to(context, (*a.shape[:-1], self.latent))
            rows = ops.concatenate([a, known], axis=-1)
            flat = ops.reshape(rows, (-1, rows.shape[-1])) if rows.ndim != 2 else rows
            out = self.links[i](flat)
            s, t = ops.split(ops.reshape(out, (*a.shape[:-1], out.shape[-1])) if rows.ndim != 2 else out, 2)
            return ops.tanh(s) * 2.0, t

        return link
