"""What a cross-encoder's logits cost: pair by pair, or over all passages of a query.

Notation: B pairs of a batch, Q queries, L passages of the query with most. Labels go from 0 to 1. The values are those
of sentence-transformers' losses of the same names with their defaults; there they include the model's forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch.nn import functional

#: Weight of the NDCG-Loss2 part in NDCG-Loss2++, as in the paper's experiments.
_MU = 10.0

#: Logits (B,), labels (B,) and the query that each pair belongs to, (B,) integers in ascending order -> scalar.
RankingLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def binary_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of sigmoid(logit) and label, mean over pairs; labels between 0 and 1 are probabilities."""
    return functional.binary_cross_entropy_with_logits(logits, labels)


def mean_squared_error(logits: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Squared distance of sigmoid(logit) and label, mean over pairs."""
    return functional.mse_loss(torch.sigmoid(logits), labels)


def ranknet(logits: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Logistic loss in bits of each two passages in the wrong or right order, mean over them (Burges et al. 2005)."""
    matrix, truth, present = _per_query(logits, labels, queries)
    return _pairwise(matrix, truth, present, torch.ones_like(matrix[:, :, None]))


def lambdaloss(logits: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """RankNet's terms weighted by what swapping the two would change in nDCG: NDCG-Loss2++ (Wang et al. 2018)."""
    matrix, truth, present = _per_query(logits, labels, queries)
    matrix, order = matrix.sort(dim=1, descending=True, stable=True)
    truth, present = truth.gather(1, order), present.gather(1, order)
    places = torch.arange(1, matrix.shape[1] + 1, device=matrix.device, dtype=matrix.dtype)
    gains = torch.where(present, torch.exp2(truth) - 1, 0.0)
    ideal = gains.sort(dim=1, descending=True).values / torch.log2(1 + places)
    gains = gains / ideal.sum(dim=1, keepdim=True).clamp(min=1e-10)
    swapped = (gains[:, :, None] - gains[:, None, :]).abs()
    discounts = 1 / torch.log2(1 + places)
    lambda_rank = (discounts[:, None] - discounts[None, :]).abs()
    distances = (places[:, None] - places[None, :]).abs()
    bound = 1 / torch.log2(1 + distances.clamp(min=1)) - 1 / torch.log2(2 + distances)
    return _pairwise(matrix, truth, present, (_MU * bound.masked_fill(distances == 0, 0) + lambda_rank) * swapped)


def listnet(logits: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the two top-one distributions softmax(label), softmax(logit), mean over queries (Cao 2007)."""
    matrix, truth, present = _per_query(logits, labels, queries)
    wanted = truth.masked_fill(~present, -math.inf).softmax(dim=1)
    return functional.cross_entropy(matrix, wanted)


def listmle(logits: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of the true order under Plackett-Luce, mean over queries (Xia et al. 2008)."""
    matrix, truth, present = _per_query(logits, labels, queries)
    order = truth.masked_fill(~present, -math.inf).sort(dim=1, descending=True, stable=True).indices
    matrix, present = matrix.gather(1, order), present.gather(1, order)
    rest = matrix.flip(1).logcumsumexp(dim=1).flip(1)
    return (rest - matrix).masked_fill(~present, 0).sum(dim=1).mean()


#: By the name of the spec.
LOSSES: Mapping[str, RankingLoss] = MappingProxyType(
    {
        "bce": binary_cross_entropy,
        "mse": mean_squared_error,
        "ranknet": ranknet,
        "lambdaloss": lambdaloss,
        "listnet": listnet,
        "listmle": listmle,
    }
)


def _per_query(
    logits: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels and whether there is a passage, each (Q, L), where there is none a logit far below all others."""
    _, counts = queries.unique_consecutive(return_counts=True)
    present = torch.arange(int(counts.max()), device=logits.device) < counts[:, None]
    matrix = torch.full(present.shape, -1e16, dtype=logits.dtype, device=logits.device)
    truth = torch.zeros(present.shape, dtype=labels.dtype, device=labels.device)
    return matrix.masked_scatter(present, logits), truth.masked_scatter(present, labels), present


def _pairwise(matrix: torch.Tensor, truth: torch.Tensor, present: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean of weight * log2(1 + exp(logit_j - logit_i)) over passages i and j of a query with label_i > label_j."""
    both = present[:, :, None] & present[:, None, :]
    ordered = both & (truth[:, :, None] > truth[:, None, :])
    differences = (matrix[:, :, None] - matrix[:, None, :]).clamp(min=-1e8, max=1e8)
    terms = weights * functional.logsigmoid(differences) / math.log(2)
    return -terms.masked_fill(~ordered, 0).sum() / ordered.sum().clamp(min=1)
