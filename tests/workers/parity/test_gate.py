"""The serve-parity gate: six classic faults are caught and called by their names, and what is right passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from jobspecs.verification import Cause, VerificationState
from tests.workers.parity.models import build_peaked_llm, change_json, change_weights, copied
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.tgi import export
from workers.parity.candidates import Base, embedded, tgi
from workers.parity.gate import Candidate, Comparison, compare
from workers.parity.limits import LOSSLESS
from workers.parity.sides import EmbeddedSide

_CHANGED = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_peaked_llm(tmp_path_factory.mktemp("source") / "model")


@pytest.fixture(scope="module")
def source(folder: Path) -> Iterator[EmbeddedSide]:
    side = EmbeddedSide(LanguageModel.load(folder))
    yield side
    side.close()


def found(source: EmbeddedSide, candidate: Candidate) -> Comparison:
    return compare(source, candidate, LOSSLESS)


def cause(source: EmbeddedSide, folder: Path, base: Base | None = None) -> Cause | None:
    return found(source, embedded(folder, source, base=base)).verification.cause


def test_a_copy_is_verified_with_no_divergence(source: EmbeddedSide, folder: Path) -> None:
    comparison = found(source, embedded(folder, source))
    assert comparison.verification.state is VerificationState.verified
    assert comparison.agreement == 1.0
    assert comparison.kl_divergence == pytest.approx(0.0, abs=1e-9)
    assert comparison.positions > 200


def test_a_lost_template_is_named(source: EmbeddedSide, folder: Path, tmp_path: Path) -> None:
    made = copied(folder, tmp_path / "made")
    (made / "chat_template.jinja").unlink()
    comparison = found(source, embedded(made, source))
    assert comparison.verification.cause is Cause.template
    assert "knows no conversations" in comparison.verification.message


def test_rope_parameters_lost_in_a_loader_of_transformers_4_are_named(
    source: EmbeddedSide, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = found(source, tgi(folder, source, tmp_path))
    assert right.verification.state is VerificationState.verified
    # As transformers 5 writes it: 4.51 loads that without an error.
    monkeypatch.setattr(export, "config_of_4", lambda config: config)
    wrong = found(source, tgi(folder, source, tmp_path / "wrong"))
    assert wrong.verification.cause is Cause.rope
    assert "second on" in wrong.verification.message


def test_a_wrong_end_token_is_named(source: EmbeddedSide, folder: Path, tmp_path: Path) -> None:
    made = copied(folder, tmp_path / "made")
    for name in ("config.json", "generation_config.json"):
        change_json(made / name, eos_token_id=0)
    change_json(made / "tokenizer_config.json", eos_token="<|pad|>")
    comparison = found(source, embedded(made, source))
    assert comparison.verification.cause is Cause.end_token
    assert "<|im_end|>" in comparison.verification.message


def test_a_vocabulary_one_row_short_is_named(source: EmbeddedSide, folder: Path, tmp_path: Path) -> None:
    made = copied(folder, tmp_path / "made")

    def shortened(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: one[:-1] if "embed_tokens" in name else one for name, one in weights.items()}

    change_weights(made, shortened)
    change_json(made / "config.json", vocab_size=source.model.vocabulary_size - 1)
    assert cause(source, made) is Cause.vocabulary


def test_an_adapter_scaled_twice_is_named(source: EmbeddedSide, folder: Path, tmp_path: Path) -> None:
    base, made = copied(folder, tmp_path / "base"), copied(folder, tmp_path / "made")
    delta = torch.randn(32, 64, generator=torch.Generator().manual_seed(1)) * 0.3

    def less(times: int) -> Any:
        return lambda weights: {**weights, _CHANGED: weights[_CHANGED] + times * delta}

    # The source is the base with the adapter once; what was made has it twice.
    change_weights(base, less(-1))
    change_weights(made, less(1))
    weights = {name: one for name, one in LanguageModel.load(base).model.state_dict().items()}
    comparison = found(source, embedded(made, source, base=weights))
    assert comparison.verification.cause is Cause.scale
    assert "2.00 times" in comparison.verification.message


def test_a_tied_head_that_was_untied_is_named(source: EmbeddedSide, folder: Path, tmp_path: Path) -> None:
    made = copied(folder, tmp_path / "made")
    shape = (source.model.vocabulary_size, 32)
    head = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 0.35
    change_weights(made, lambda weights: {**weights, "lm_head.weight": head})
    change_json(made / "config.json", tie_word_embeddings=False)
    assert cause(source, made) is Cause.head


def test_another_tokenizer_and_other_weights_are_named(source: EmbeddedSide, folder: Path, tmp_path: Path) -> None:
    other = copied(folder, tmp_path / "other")
    tokenizer = (other / "tokenizer.json").read_text(encoding="utf-8")
    (other / "tokenizer.json").write_text(tokenizer.replace('"add_prefix_space":false', '"add_prefix_space":true'))
    (other / "tokenizer.json").write_text(
        tokenizer.replace('"add_prefix_space": false', '"add_prefix_space": true'), encoding="utf-8"
    )
    assert cause(source, other) is Cause.tokenizer
    assert cause(source, build_peaked_llm(tmp_path / "weights", seed=9)) is Cause.weights


def test_what_the_engine_can_not_load_is_named(source: EmbeddedSide, folder: Path, tmp_path: Path) -> None:
    made = copied(folder, tmp_path / "made")
    change_weights(made, lambda weights: {name: one for name, one in weights.items() if name != _CHANGED})
    comparison = found(source, embedded(made, source))
    assert comparison.verification.cause is Cause.load
    assert "down_proj" in comparison.verification.message
