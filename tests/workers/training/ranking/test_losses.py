"""The losses on logits give what sentence-transformers' losses of the same names give, gradients too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import losses as library
from torch import nn

from jobspecs.kinds.train_reranker import LISTWISE
from workers.training.ranking.losses import LOSSES, lambdaloss, listmle, listnet, ranknet

#: Passages of each of four queries; the labels of a query are distinct, so that its order is.
COUNTS = (3, 1, 5, 2)
QUERIES = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
LOGITS = torch.tensor([0.3, -1.2, 2.0, 0.1, 1.5, -0.4, 0.9, -2.2, 0.05, 0.7, 0.8])
LABELS = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0, 0.25, 0.5, 1.0, 0.75, 0.4, 0.6])


class Given(CrossEncoder):  # type: ignore[misc]
    """Stands where the library expects a cross-encoder, and answers with logits that are given."""

    num_labels = 1
    device = torch.device("cpu")

    def __init__(self, logits: torch.Tensor) -> None:
        nn.Module.__init__(self)
        self.logits = logits

    def preprocess(self, pairs: list[Any], **_: Any) -> dict[str, Any]:
        return {}

    def forward(self, _: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"scores": self.logits}


def of_library(name: str, logits: torch.Tensor) -> torch.Tensor:
    model: Any = Given(logits)
    passages = [["passage"] * count for count in COUNTS]
    labels = list(LABELS.split(list(COUNTS)))
    inputs = [["query"] * len(COUNTS), passages]
    classes = {"ranknet": library.RankNetLoss, "lambdaloss": library.LambdaLoss, "listnet": library.ListNetLoss}
    if name in classes:
        return classes[name](model, mini_batch_size=-1)(inputs, labels)
    if name == "listmle":
        return library.ListMLELoss(model, mini_batch_size=-1, respect_input_order=False)(inputs, labels)
    flat = [["query"] * len(LOGITS), ["passage"] * len(LOGITS)]
    if name == "mse":
        return library.MSELoss(model, activation_fn=nn.Sigmoid())(flat, LABELS)
    return library.BinaryCrossEntropyLoss(model)(flat, LABELS)


@pytest.mark.parametrize("name", ["bce", "mse", *sorted(LISTWISE)])
def test_value_and_gradients_are_the_librarys(name: str) -> None:
    ours, theirs = (LOGITS.clone().requires_grad_() for _ in range(2))
    value, expected = LOSSES[name](ours, LABELS, QUERIES), of_library(name, theirs)
    torch.autograd.backward(value)
    torch.autograd.backward(expected)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert ours.grad is not None and theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    assert ours.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [ranknet, lambdaloss, listnet, listmle])
def test_the_right_order_costs_less_than_the_wrong_one(loss: Any) -> None:
    assert loss(LABELS * 4, LABELS, QUERIES) < loss(-LABELS * 4, LABELS, QUERIES)


@pytest.mark.parametrize("loss", [ranknet, lambdaloss])
def test_a_batch_without_anything_to_order_costs_nothing(loss: Any) -> None:
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits, torch.ones(len(LOGITS)), QUERIES)
    torch.autograd.backward(value)
    assert value.item() == 0
    assert logits.grad is not None and not logits.grad.any()


def test_extreme_logits_neither_overflow_nor_lose_their_gradient() -> None:
    for name in LISTWISE:
        logits = (LOGITS * 1e4).requires_grad_()
        value = LOSSES[name](logits, LABELS, QUERIES)
        torch.autograd.backward(value)
        assert torch.isfinite(value)
        assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())
