"""What the page needs of a run: the model, codes and pictures of some test examples, what each latent says, and the losses so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import inference
from ..data import Dataset, load, to_float
from ..errors import NonFiniteError, UsageError
from ..evaluate import appearance, roles
from ..models import AE, CVAE, VAE, HierarchicalVAE, activity
from ..models.activity import Activity
from ..nn import evaluating
from ..random import Stream
from ..runs import Run
from ..runs.saved import describe_objective
from ..training.measures import like
from .networks import describe
from .packing import pack

STORIES: dict[type, str] = {VAE: "vae", AE: "ae", CVAE: "cvae", HierarchicalVAE: "hierarchical"}  # how the page encodes and decodes
# whose densities the page has
LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian", "laplace", "beta_binomial", "discretized_logistic")
CODES = 2000  # dots on the map
ROOM = 400_000  # bytes of test examples in the page
SILENT = 0.01  # nats: a latent with less says nothing
LARGEST = 16_000_000  # parameters: 32 MB, and a third more as text


@dataclass
class Look:
    """What is to be seen of one run."""

    name: str
    model: Any
    data: Dataset
    objective: dict[str, Any] = field(default_factory=dict)
    metrics: Sequence[dict[str, Any]] = ()  # the lines of metrics.jsonl

    @property
    def labels(self) -> np.ndarray | None:
        """The condition of the test examples, for a model that has one."""
        if not hasattr(self.model, "condition"):
            return None
        labels = self.data.test_labels
        if labels is None or int(labels.max()) >= self.model.condition_size:
            found = "no labels" if labels is None else f"labels up to {labels.max()}"
            raise UsageError(
                f"{self.name}: the condition has {self.model.condition_size} numbers and the data have {found}; the page can choose labels "
                "alone, so train with the label as the condition"
            )
        return labels


def look_at(folder: str | Path, data: Dataset | None = None) -> Look:
    """A run folder's last checkpoint; the data set is loaded again where none is given."""
    run = Run.open(folder, "cpu")
    own = load(**run.source) if data is None else data
    return Look(run.folder.name or str(run.folder), run.model, own, describe_objective(run.trainer.objective), run.metrics)


def data_of(look: Look) -> dict[str, Any]:
    """The test examples that the page shows, which several runs on the same data share."""
    data = look.data
    count = max(min(len(data.test_images), 300, ROOM // data.test_images[0].nbytes), min(len(data.test_images), 8))
    labels = data.test_labels
    classes = sorted({int(label) for label in labels}) if labels is not None else []
    names = [data.label_names[k] if k < len(data.label_names) else str(k) for k in classes]
    return {
        "name": data.name,
        "shape": list(data.image_shape),
        "bytes": data.test_images.dtype == np.uint8,
        "count": count,
        "images": pack(data.test_images[:count], "the test examples"),
        "labels": None if labels is None else [int(label) for label in labels[:CODES]],
        "classes": dict(zip(classes, names, strict=True)),
    }


def run_of(look: Look) -> dict[str, Any]:
    """Everything about one run but its data.  Raises UsageError or NonFiniteError, a sentence."""
    model, data = look.model, look.data
    network = model_of(model, look.name)
    if tuple(model.image_shape) != tuple(data.image_shape):
        raise UsageError(
            f"{look.name}: the model takes {tuple(model.image_shape)}, {data.name} has {tuple(data.image_shape)}; name its data"
        )
    seen, labels = data.test_images[:CODES], look.labels
    labels = None if labels is None else labels[:CODES]
    codes = inference.encode_mean(model, seen, labels)
    if not np.isfinite(codes).all():
        raise NonFiniteError(f"{look.name}: the codes of the test examples are not finite; use an earlier checkpoint")
    used = use(look, codes, labels)
    pictures = inference.decode_mean(model, codes[:1], None if labels is None else labels[:1])
    standard = type(model) in (VAE, CVAE) and getattr(model, "prior_kind", "fixed") == "fixed"
    spread = np.ones(model.latent) if standard else np.maximum(codes.std(axis=0), 1e-3)
    named = roles(codes, attributes(data, len(seen)))
    axes, share = principal_axes(codes)
    return {
        "name": look.name,
        "model": network,
        "objective": look.objective,
        "metrics": list(look.metrics),
        "codes": pack(codes, f"{look.name}: the codes"),
        "kl": None if used.kl is None else [round(float(kl), 4) for kl in used.kl],
        "active": [bool(a) for a in (used.active if used.kl is None else used.active & (used.kl >= SILENT))],
        "order": [int(k) for k in np.argsort(-(used.kl if used.kl is not None else codes.var(axis=0)), kind="stable")],
        "centre": [0.0] * model.latent if standard else [round(float(m), 4) for m in codes.mean(axis=0)],
        "spread": [round(float(s), 4) for s in spread],
        "roles": [None if role is None else [role.name, round(role.share, 2)] for role in named],
        "principal": {"mean": pack(codes.mean(axis=0), "mean"), "axes": pack(axes, "axes"), "share": share},
        "check": {"code": pack(codes[0], "a code"), "picture": pack(np.asarray(pictures[0], np.float32), "a picture")},
    }


def model_of(model: Any, name: str) -> dict[str, Any]:
    """The generative story and its networks."""
    if type(model) not in STORIES:
        known = ", ".join(kind.__name__ for kind in STORIES)
        raise UsageError(
            f"{name} is a {type(model).__name__}, and the explorer's page knows how {known} encode and decode; train one of these"
        )
    if model.likelihood not in LIKELIHOODS:
        raise UsageError(
            f"{name} has a {model.likelihood} likelihood, and the explorer's page knows {', '.join(LIKELIHOODS)}; train one with these"
        )
    size = sum(p.size for p in model.parameters())
    if size > LARGEST:
        raise UsageError(f"{name} has {size:,} parameters; a page takes up to {LARGEST:,}")
    found = {
        "kind": STORIES[type(model)],
        "latent": model.latent,
        "top": model.top,
        "conditionSize": model.condition_size,
        "parameters": size,
        "likelihood": model.likelihood,
        "head": model.head,
        "join": len(describe_until(model)),
        "encoder": describe(model.encoder, f"{name}: encoder"),
        "decoder": describe(model.decoder, f"{name}: decoder"),
    }
    if hasattr(model, "log_scale"):
        found["logScale"] = float(model.log_scale.data)
        if not np.isfinite(found["logScale"]):
            raise NonFiniteError(f"{name}: log_scale is {found['logScale']}, and no picture can be judged by it; use an earlier checkpoint")
    for key, attribute in (("priorNetwork", "prior_network"), ("upwards", "upwards"), ("downwards", "downwards")):
        if hasattr(model, attribute):
            found[key] = describe(getattr(model, attribute), f"{name}: {attribute}")
    return found


def describe_until(model: Any) -> list[dict[str, Any]]:
    """The encoder's layers in front of the condition."""
    layers = getattr(model.encoder, "layers", [])[: model.join]
    return [d for layer in layers for d in describe(layer, "encoder")]


def use(look: Look, codes: np.ndarray, labels: np.ndarray | None) -> Activity:
    """Which latents are used, and the KL of each where it can be told."""
    count = min(len(codes), 1000)
    known = look.model if labels is None else look.model.condition(labels[:count])
    with evaluating(look.model):
        return activity(known, like(look.model, to_float(look.data.test_images[:count])), Stream(0).split("use of the latents"))


def attributes(data: Dataset, count: int) -> dict[str, np.ndarray]:
    """What is known or can be measured of the test examples: the factors that made them; else the class, attributes, how pictures look."""
    if data.test_factors:
        return {name: values[:count] for name, values in data.test_factors.items()}
    found = {} if data.test_labels is None else {"class": data.test_labels[:count]}
    found |= {name: values[:count] for name, values in data.test_attributes.items()}
    if len(data.image_shape) == 3 and count:
        found |= appearance(to_float(data.test_images[:count]))
    return found


def principal_axes(codes: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """The two directions in which the codes vary most, and the share of the variance of each.     (N, K) -> (2, K), 2 numbers"""
    _, values, axes = np.linalg.svd(codes - codes.mean(axis=0, dtype=np.float64), full_matrices=False)
    if len(axes) < 2:
        axes, values = np.concatenate([axes, np.zeros_like(axes)])[:2], np.append(values, 0.0)
    total = float((values**2).sum()) or 1.0
    return axes[:2].astype(np.float32), [round(float(v**2) / total, 3) for v in values[:2]]
