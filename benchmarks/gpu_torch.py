"""PyTorch on a GPU as a contestant: eager, compiled, and its whole step as a CUDA graph; fused Adam, cuDNN's fastest algorithms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from peers_torch import TorchVAE

from minivae.cli.bench import LEARNING_RATE, Workload


def contestant(compiled: bool = False, replayed: bool = False, tf32: bool = False) -> Callable[..., Any]:
    """A factory.  compiled: torch.compile of the network; replayed: forward, backward and Adam are one torch.cuda.CUDAGraph."""

    def factory(w: Workload, init: dict[str, np.ndarray], x: np.ndarray) -> tuple[Any, Any]:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        model = TorchVAE(w, init, channels_last=False).cuda()
        images = torch.from_numpy(x).cuda()
        images = images.permute(0, 3, 1, 2).contiguous() if w.convs else images
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True, capturable=True)
        forward = torch.compile(model) if compiled else model
        shape = (max(w.samples, 1), w.batch, w.latent)

        at_first = [p.detach().clone() for p in model.parameters()]

        def loss(eps: np.ndarray) -> float:
            now = [p.detach().clone() for p in model.parameters()]
            put(model, at_first)
            value = float(model(images, torch.from_numpy(eps).cuda()).detach())
            put(model, now)
            return value

        def step() -> Any:
            optimizer.zero_grad(set_to_none=True)
            value = forward(images, torch.randn(shape, device="cuda"))
            value.backward()
            optimizer.step()
            return value

        run = graphed(step) if replayed else step

        def once() -> Any:
            return run()

        once.sync = torch.cuda.synchronize  # type: ignore[attr-defined]
        return once, None if tf32 else loss

    return factory


def put(model: Any, arrays: list[Any]) -> None:
    with torch.no_grad():
        for p, a in zip(model.parameters(), arrays, strict=True):
            p.copy_(a)


def graphed(step: Callable[[], Any]) -> Callable[[], Any]:
    """The step as one graph, captured as PyTorch's manual says: after some steps on a stream of its own.  Its noise is fresh every time."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


eager = contestant()
compiled = contestant(compiled=True)
graph = contestant(replayed=True)
compiled_graph = contestant(compiled=True, replayed=True)
graph_tf32 = contestant(replayed=True, tf32=True)
