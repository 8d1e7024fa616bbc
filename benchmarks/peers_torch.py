"""PyTorch as a contestant, in the ways its users make it fast: fused Adam, torch.compile, channels-last convolutions."""

import itertools
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from minivae.cli.bench import LEARNING_RATE, Workload


class TorchVAE(torch.nn.Module):
    """The network and its loss in one module, so that torch.compile sees both."""

    def __init__(self, w: Workload, init: dict[str, np.ndarray], channels_last: bool):
        super().__init__()
        self.w, self.channels_last = w, channels_last
        self.act = {"relu": F.relu, "tanh": torch.tanh}[w.activation]
        # the common parameters flatten images as (H, W, C); channels first wants (C, H, W)
        self.inner = (*w.sizes[-1], w.convs[-1][0]) if w.convs else ()
        order = np.arange(math.prod(self.inner)).reshape(self.inner)
        order = (order.transpose(2, 0, 1) if w.convs and not channels_last else order).reshape(-1)

        def dense(name: str) -> tuple[np.ndarray, np.ndarray]:
            return init[f"{name}.W"], init[f"{name}.b"]

        def linear(weight: np.ndarray, bias: np.ndarray) -> torch.nn.Linear:
            return filled(torch.nn.Linear(*weight.shape), weight.T, bias)

        encoder = [dense(f"e{i}") for i in range(len(w.hidden))]
        head = tuple(np.concatenate(pair, -1) for pair in zip(dense("mu"), dense("lv"), strict=True))  # one product for both halves
        decoder = [dense(f"d{i}") for i in range(len(w.hidden) + 1)]
        if w.convs:
            encoder[0] = (encoder[0][0][order], encoder[0][1])
            decoder[-1] = (decoder[-1][0][:, order], decoder[-1][1][order])
        self.encoder = torch.nn.ModuleList(linear(*layer) for layer in encoder)
        self.head = linear(*head)
        self.decoder = torch.nn.ModuleList(linear(*layer) for layer in decoder)
        self.convs, self.transposed = torch.nn.ModuleList(), torch.nn.ModuleList()
        channels = (w.image[2], *(conv[0] for conv in w.convs))
        for i, (a, b) in enumerate(itertools.pairwise(channels)):
            _, kernel, stride = w.convs[i]
            padding = (kernel - 1) // 2
            conv = torch.nn.Conv2d(a, b, kernel, stride, padding)
            self.convs.append(filled(conv, init[f"ec{i}.W"].transpose(3, 2, 0, 1), init[f"ec{i}.b"]))
            missing = [size - ((small - 1) * stride - 2 * padding + kernel) for size, small in zip(w.sizes[i], w.sizes[i + 1], strict=True)]
            back = f"dc{len(w.convs) - 1 - i}"
            conv = torch.nn.ConvTranspose2d(b, a, kernel, stride, padding, output_padding=missing)
            self.transposed.insert(0, filled(conv, init[f"{back}.W"].transpose(2, 3, 0, 1), init[f"{back}.b"]))

    def forward(self, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        h = x
        for conv in self.convs:
            h = self.act(conv(h))
        if self.inner:
            h = (h.permute(0, 2, 3, 1) if self.channels_last else h).flatten(1)
        for layer in self.encoder:
            h = self.act(layer(h))
        mean, logvar = self.head(h).chunk(2, -1)
        z = mean + torch.exp(0.5 * logvar) * (eps if self.w.samples else eps[0])
        h = z
        for i, layer in enumerate(self.decoder):
            h = layer(h)
            if self.inner or i < len(self.decoder) - 1:
                h = self.act(h)
        if self.inner:
            height, width, channels = self.inner
            h = h.view(-1, height, width, channels).permute(0, 3, 1, 2) if self.channels_last else h.view(-1, channels, height, width)
        for i, conv in enumerate(self.transposed):
            h = conv(h)
            if i < len(self.transposed) - 1:
                h = self.act(h)
        if self.w.samples:
            log_px = -F.binary_cross_entropy_with_logits(h, x.expand_as(h), reduction="none").sum(-1)
            log_weight = log_px - 0.5 * (z * z).sum(-1) + 0.5 * (eps * eps + logvar).sum(-1)
            return math.log(self.w.samples) - torch.logsumexp(log_weight, 0).mean()
        cost = F.binary_cross_entropy_with_logits(h, x, reduction="sum")
        return (cost - 0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())) / len(x)


def filled(layer: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


def contestant(
    fused: bool = True, compiled: bool = False, compiled_adam: bool = False, mode: str | None = None, channels_last: bool = False
) -> Callable[..., Any]:
    """A factory.  fused: Adam in one kernel; compiled: torch.compile of the network, in a mode; compiled_adam: of the optimizer too."""

    def factory(w: Workload, init: dict[str, np.ndarray], x: np.ndarray) -> tuple[Any, Any]:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        torch.manual_seed(0)
        model = TorchVAE(w, init, channels_last)
        images = torch.from_numpy(x)
        if w.convs:
            images = images.permute(0, 3, 1, 2).contiguous()
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=fused or None)
        forward = torch.compile(model, mode=mode) if compiled else model
        update = torch.compile(optimizer.step) if compiled_adam else optimizer.step
        shape = (max(w.samples, 1), w.batch, w.latent)

        def step() -> torch.Tensor:
            eps = torch.randn(shape)
            optimizer.zero_grad(set_to_none=True)
            loss = forward(images, eps)
            loss.backward()
            update()
            return loss

        return step, lambda eps: float(model(images, torch.from_numpy(eps)).detach())

    return factory


eager = contestant(fused=False)
fused = contestant()
compiled = contestant(compiled=True)
compiled_all = contestant(fused=False, compiled=True, compiled_adam=True)
autotuned = contestant(compiled=True, mode="max-autotune-no-cudagraphs")
channels_last = contestant(channels_last=True)
channels_last_compiled = contestant(channels_last=True, compiled=True)
