"""The losses of embedders, over embeddings that are there already. The arithmetic is sentence-transformers' own.

Notation: B rows, C texts per row, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch.nn import functional

from jobspecs.kinds.train_embedder import TrainEmbedder
from workers.local_models.on_demand import OnDemand

losses: Any = OnDemand("sentence_transformers.sentence_transformer.losses")

#: Embeddings (C times (B, D)) and targets (B,) to a scalar.
Loss = Callable[[Sequence[torch.Tensor], torch.Tensor | None], torch.Tensor]

#: Rows of the matrix of similarities that are in memory at once while gradients are cached.
_QUERIES_AT_ONCE = 1024


def build_loss(spec: TrainEmbedder) -> Loss:
    """The loss that the spec names, of the first so many dimensions too where `matryoshka_dims` asks for it."""
    loss = _plain_loss(spec)
    dims = spec.matryoshka_dims

    def matryoshka(embeddings: Sequence[torch.Tensor], targets: torch.Tensor | None) -> torch.Tensor:
        return torch.stack([loss(shortened(embeddings, dim), targets) for dim in dims]).sum()

    return matryoshka if dims else loss


def multiple_negatives(
    embeddings: Sequence[torch.Tensor], scale: float, first: int = 0, count: int | None = None
) -> torch.Tensor:
    """Sum over the anchors `first` to `first + count` of the cross-entropy of finding their positive.

    All positives and negatives of the batch are candidates (Henderson et al. 2017, arXiv:1705.00652, section 4.4).
    `embeddings`: anchors, positives, negatives, each (B, D).
    """
    anchors = functional.normalize(embeddings[0][first : first + count if count else None], dim=-1)
    candidates = functional.normalize(torch.cat(list(embeddings[1:])), dim=-1)
    own = torch.arange(first, first + len(anchors), device=anchors.device)
    return functional.cross_entropy(scale * anchors @ candidates.T, own, reduction="sum")


def cached_gradients(
    embeddings: Sequence[torch.Tensor], scale: float, dims: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of `multiple_negatives` per anchor, and its gradients (C, B, D) with respect to the embeddings.

    Rows of the similarity matrix are taken in turn, so that it never is in memory as a whole.
    """
    leaves = [part.detach().requires_grad_() for part in embeddings]
    rows, total = len(leaves[0]), leaves[0].new_zeros(())
    for dim in dims or [leaves[0].shape[1]]:
        for first in range(0, rows, _QUERIES_AT_ONCE):
            parts = shortened(leaves, dim) if dims else leaves
            loss = multiple_negatives(parts, scale, first, _QUERIES_AT_ONCE) / rows
            torch.autograd.backward(loss)
            total += loss.detach()
    return total, torch.stack([cast(torch.Tensor, leaf.grad) for leaf in leaves])


def shortened(embeddings: Sequence[torch.Tensor], dim: int) -> list[torch.Tensor]:
    """The first `dim` dimensions, of length 1 (Matryoshka representations, arXiv:2205.13147)."""
    return [functional.normalize(part[:, :dim], dim=-1) for part in embeddings]


def _plain_loss(spec: TrainEmbedder) -> Loss:
    scale, margin = spec.training.scale, spec.training.margin
    model: Any = None  # the losses embed nothing here
    if spec.loss_name in ("multiple-negatives-ranking", "cached-multiple-negatives-ranking"):
        return lambda embeddings, targets: multiple_negatives(embeddings, scale) / len(embeddings[0])
    if spec.loss_name == "cosent":
        module = losses.CoSENTLoss(model, scale=scale)
    elif spec.loss_name == "angle":
        module = losses.AnglELoss(model, scale=scale)
    elif spec.loss_name == "contrastive":
        module = losses.ContrastiveLoss(model, margin=margin or 0.5)
    elif spec.loss_name == "triplet":
        module = losses.TripletLoss(model, triplet_margin=margin or 5)
        return lambda embeddings, targets: _each_negative(module, embeddings)
    else:
        module = losses.BatchHardTripletLoss(model, margin=margin or 5)
    return lambda embeddings, targets: module.compute_loss_from_embeddings(list(embeddings), targets)


def _each_negative(module: Any, embeddings: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean over the negatives of a row; with one, the library's own loss."""
    anchor, positive, *negatives = embeddings
    parts = [module.compute_loss_from_embeddings([anchor, positive, negative], None) for negative in negatives]
    return torch.stack(parts).mean()
