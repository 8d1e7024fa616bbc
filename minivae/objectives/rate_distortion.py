"""How a lossy codec is trained."""

from dataclasses import dataclass
from typing import ClassVar

from ..ops import square
from .base import Objective, setting


@dataclass(frozen=True)
class RateDistortion(Objective):
    """loss = mean_n bits(y~) / (H W) + distortion 255^2 MSE(x, x^),  y~ the latents with uniform noise, rounded in an evaluation.

    Bits a pixel of what the density says of y~, and the squared error in units of bytes.  The larger `distortion`, the larger and the
    better the files.  As a VAE: x ~ N(x^, sigma^2) with 1 / (2 sigma^2 log 2) = distortion 255^2 / C.
    J. Balle, V. Laparra and E. P. Simoncelli, "End-to-end optimized image compression", 2017, eq. 9
    """

    name: ClassVar[str] = "rate_distortion"
    needs: ClassVar[tuple[str, ...]] = ("analysis", "quantized", "synthesis", "bits")
    units: ClassVar[str] = "bits a pixel"

    distortion: float = setting(0.0067, "weight of the squared error, in units of bytes", 0)

    def losses(self, players, batch, rng, progress):
        model = players["model"]
        y = model.quantized(model.analysis(batch.x), rng)
        bpp = model.bits(y) * (1 / (batch.x.shape[1] * batch.x.shape[2]))  # (N,)
        mse = square(model.synthesis(y) - batch.x).mean(axis=(1, 2, 3))  # (N,)
        loss = (bpp + mse * (self.distortion * 255**2)).mean()
        return {"model": loss}, {"bpp": bpp, "mse": mse}
