from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from workers.local_models import linear
from workers.training.llm import lm_head
from workers.training.llm.lm_head import Head, token_log_probs, weighted_loss

TOKENS, HIDDEN, VOCABULARY = 75, 16, 211


@pytest.fixture(params=[False, True], ids=["default kernels", "onednn"], autouse=True)
def _kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "prefers_onednn", lambda: request.param)
    monkeypatch.setattr(lm_head, "_LOGITS_BYTES", 0)  # chunks of the fewest rows


HEADS = {
    "plain": {},
    "scaled": {"scale": 0.25},
    "capped": {"softcap": 2.0},
    "scaled and capped": {"scale": 0.5, "softcap": 3.0},
}


def draw(*, bias: bool, trained: bool, **settings: float) -> tuple[torch.Tensor, Head, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(TOKENS, HIDDEN, generator=generator).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator).requires_grad_(trained)
    offset = torch.randn(VOCABULARY, generator=generator).requires_grad_(trained) if bias else None
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    weights = torch.rand(TOKENS, generator=generator) / TOKENS
    return hidden, Head(weight, offset, **settings), targets, weights


def plain_log_probs(hidden: torch.Tensor, head: Head, targets: torch.Tensor) -> torch.Tensor:
    """With all logits at once, by autograd."""
    logits = hidden @ head.weight.t() * head.scale
    logits = logits if head.bias is None else logits + head.bias
    logits = logits if head.softcap is None else torch.tanh(logits / head.softcap) * head.softcap
    return -functional.cross_entropy(logits, targets, reduction="none")


def gradients_of(loss: torch.Tensor, hidden: torch.Tensor, head: Head) -> list[torch.Tensor]:
    wanted = [t for t in (hidden, head.weight, head.bias) if t is not None and t.requires_grad]
    return list(torch.autograd.grad(loss, wanted))


@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("trained", [True, False])
def test_loss_and_gradients_equal_those_with_all_logits(settings: dict[str, float], trained: bool) -> None:
    hidden, head, targets, weights = draw(bias=not settings, trained=trained, **settings)
    ours = weighted_loss(hidden, head, targets, weights)
    plain = -(plain_log_probs(hidden, head, targets) * weights).sum()
    assert torch.allclose(ours, plain, atol=1e-6)
    for own, other in zip(gradients_of(ours, hidden, head), gradients_of(plain, hidden, head), strict=True):
        assert torch.allclose(own, other, atol=1e-6)


@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS.keys())
def test_log_probabilities_and_their_gradients_equal_those_with_all_logits(settings: dict[str, float]) -> None:
    hidden, head, targets, weights = draw(bias=not settings, trained=True, **settings)
    ours, plain = token_log_probs(hidden, head, targets), plain_log_probs(hidden, head, targets)
    assert torch.allclose(ours, plain, atol=1e-5)
    found = gradients_of((ours * weights).square().sum(), hidden, head)
    expected = gradients_of((plain * weights).square().sum(), hidden, head)
    for own, other in zip(found, expected, strict=True):
        assert torch.allclose(own, other, atol=1e-6)


def test_a_scaled_loss_scales_its_gradients() -> None:
    hidden, head, targets, weights = draw(bias=False, trained=True)
    once = gradients_of(weighted_loss(hidden, head, targets, weights), hidden, head)
    thrice = gradients_of(3 * weighted_loss(hidden, head, targets, weights), hidden, head)
    assert all(torch.allclose(3 * one, other, rtol=1e-5) for one, other in zip(once, thrice, strict=True))


def test_outside_of_training_the_loss_is_the_same() -> None:
    hidden, head, targets, weights = draw(bias=True, trained=False)
    with torch.no_grad():
        assert torch.allclose(weighted_loss(hidden, head, targets, weights), _loss(hidden, head, targets, weights))


def _loss(hidden: torch.Tensor, head: Head, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return weighted_loss(hidden.detach().requires_grad_(), replace(head), targets, weights).detach()
