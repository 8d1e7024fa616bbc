"""What the contestants train: the six workloads, a sweep of shapes that nobody tuned for, and their common initial parameters.

Layout of the parameters: a dense W is (in, out), a convolution's W is (KH, KW, in, out), and so is a transposed convolution's, `in` being
the channels that enter it.  Images are (N, H, W, C), and for dense networks flat.  Layers are named ec0, ec1, ... (convolutions), e0, ...
(dense), mu and lv (the head: mean and log variance), d0, ... and dc0, ... (the decoder's).
"""

import math

import numpy as np

from minivae.cli.bench import WORKLOADS, Workload

GRAY, RGB = (28, 28, 1), (32, 32, 3)
HALVING = ((32, 4, 2), (64, 4, 2))
STRIDE_1 = ((32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2))

SWEEP = {
    w.name: w
    for w in (
        Workload("mlp-300", GRAY, 128, (300,), 20),
        Workload("mlp-500", GRAY, 128, (500,), 20),
        Workload("mlp-777", GRAY, 128, (777,), 20),
        Workload("mlp-b100", GRAY, 100, (400,), 20),
        Workload("mlp-b37", GRAY, 37, (400,), 20),
        Workload("mlp-z7", GRAY, 128, (400,), 7),
        Workload("mlp-odd", GRAY, 37, (777, 300), 7),
        Workload("conv-b100", GRAY, 100, (256,), 20, HALVING),
        Workload("conv-b37", GRAY, 37, (256,), 7, HALVING),
        Workload("conv-24-48", GRAY, 128, (256,), 20, ((24, 4, 2), (48, 4, 2))),
        Workload("conv-29", (29, 29, 1), 128, (256,), 20, HALVING),
        Workload("conv-rgb", RGB, 128, (256,), 20, HALVING),
        Workload("conv-3x3", GRAY, 128, (256,), 20, STRIDE_1),
        Workload("conv-3x3-odd", (29, 29, 3), 37, (300,), 7, ((24, 3, 1), (24, 3, 2), (48, 3, 1), (48, 3, 2))),
        Workload("conv-3x3-rgb", RGB, 64, (256,), 20, STRIDE_1),
    )
}
DRY = {  # what a stand-in for a GPU can do in a second
    w.name: w for w in (Workload("dry-mlp", (8, 8, 1), 3, (5,), 2), Workload("dry-conv", (8, 8, 1), 3, (5,), 2, ((3, 4, 2),)))
}
ALL = WORKLOADS | SWEEP | DRY


def common(w: Workload) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(parameters by name, images, noise (samples, N, latent)) with which every contestant starts; uniform within 1 / sqrt(fan-in).

    The head's biases are uniform within 1, so that the KL divergence is no rounding error of the loss by which contestants are compared.
    """
    rng = np.random.default_rng(0)
    init: dict[str, np.ndarray] = {}

    def layer(name: str, *shape: int) -> None:
        bound = 1 / math.sqrt(math.prod(shape[:-1]))
        init[f"{name}.W"] = rng.uniform(-bound, bound, shape).astype(np.float32)
        init[f"{name}.b"] = (rng.uniform(-1, 1, shape[-1]) * (1 if name in ("mu", "lv") else bound)).astype(np.float32)

    channels = (w.image[2], *(conv[0] for conv in w.convs))
    kernels = [conv[1] for conv in w.convs]
    for i, kernel in enumerate(kernels):
        layer(f"ec{i}", kernel, kernel, channels[i], channels[i + 1])
    widths = (math.prod(w.sizes[-1]) * channels[-1], *w.hidden)
    for i in range(len(w.hidden)):
        layer(f"e{i}", widths[i], widths[i + 1])
    layer("mu", widths[-1], w.latent)
    layer("lv", widths[-1], w.latent)
    back = (w.latent, *widths[::-1])
    for i in range(len(back) - 1):
        layer(f"d{i}", back[i], back[i + 1])
    for i, kernel in enumerate(kernels[::-1]):
        layer(f"dc{i}", kernel, kernel, channels[-1 - i], channels[-2 - i])
    shape = (w.batch, *w.image) if w.convs else (w.batch, math.prod(w.image))
    x = (rng.random(shape) < 0.3).astype(np.float32)
    eps = rng.standard_normal((max(w.samples, 1), w.batch, w.latent)).astype(np.float32)
    return init, x, eps
