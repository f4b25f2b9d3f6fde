"""The losses are sentence-transformers' own, the cached one is the plain one, and batches hold what losses expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from jobspecs.kinds.train_embedder import TrainEmbedder
from tests.models import labelled_texts
from tests.workers.training.embedding.embedder_attempts import CLASSES, PAIRS, SEARCH
from workers.local_models.embedding_model import EmbeddingModel, load_embedder, write_embedder
from workers.training.batches import DistinctPlan, TwinPlan
from workers.training.embedding.training import EmbeddingTask, EmbeddingTrainingData

ROWS = 12
TEXTS = [text for text, _ in labelled_texts(4 * ROWS)]


def spec_of(**fields: Any) -> TrainEmbedder:
    common = {"kind": "train-embedder", "name": "x", "model": "m@1", "dataset": "d@1"}
    return TrainEmbedder.model_validate({**common, **fields})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """The tiny encoder as an embedder without dropout."""
    path = tmp_path_factory.mktemp("embedder")
    write_embedder(path, load_embedder(tiny_bert, dropout=0.0))
    return path


def task_of(model: EmbeddingModel, spec: TrainEmbedder, columns: int, targets: Any = None) -> EmbeddingTask:
    places = np.arange(columns * ROWS).reshape(columns, ROWS).T.copy()
    data = EmbeddingTrainingData(model.tokenize(TEXTS), places, places, targets)
    return EmbeddingTask(model.network, data.tokens, data, spec, torch.device("cpu"))


def test_a_run_whose_rows_were_set_aside_one_by_one_is_another_than_one_in_twos(folder: Path) -> None:
    model, targets = load_embedder(folder), np.arange(ROWS, dtype=np.float32) % 2
    texts = EmbeddingTrainingData(model.tokenize(TEXTS), np.arange(ROWS)[:, None], np.arange(ROWS)[:, None], targets)
    spec = spec_of(**CLASSES)
    told = EmbeddingTask(model.network, texts.tokens, texts, spec, torch.device("cpu")).fingerprint()
    assert told.startswith(f"{spec.loss_name} {spec.matryoshka_dims} {model.network.pooling} twins".encode())


def gradients_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.grad.clone() for name, tensor in model.named_parameters() if tensor.grad is not None}


CASES: dict[str, tuple[dict[str, Any], int, Any]] = {
    "cosent": (PAIRS, 2, lambda model: losses.CoSENTLoss(model)),
    "angle": (PAIRS, 2, lambda model: losses.AnglELoss(model)),
    "contrastive": (PAIRS, 2, lambda model: losses.ContrastiveLoss(model)),
    "multiple-negatives-ranking": (
        {**SEARCH, "negative": "wrong"},
        3,
        lambda model: losses.MultipleNegativesRankingLoss(model),
    ),
    "cached-multiple-negatives-ranking": (
        SEARCH,
        2,
        lambda model: losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=5),
    ),
    "triplet": ({**SEARCH, "negative": "wrong"}, 3, lambda model: losses.TripletLoss(model)),
    "batch-hard-triplet": (CLASSES, 1, lambda model: losses.BatchHardTripletLoss(model)),
}


@pytest.mark.parametrize("matryoshka", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_are_those_of_sentence_transformers(name: str, matryoshka: bool, folder: Path) -> None:
    fields, columns, build = CASES[name]
    spec = spec_of(**fields, loss=name, matryoshka_dims=[32, 8] if matryoshka else [])
    generator = np.random.default_rng(1)
    targets = generator.integers(0, 3 if name == "batch-hard-triplet" else 2, ROWS).astype(np.float32)
    if name in ("cosent", "angle"):
        targets = generator.random(ROWS).astype(np.float32)
    reference = SentenceTransformer(str(folder), device="cpu")
    loss = build(reference)
    if matryoshka:
        loss = losses.MatryoshkaLoss(reference, loss, [32, 8])
    features = [reference.preprocess(TEXTS[start : start + ROWS]) for start in range(0, columns * ROWS, ROWS)]
    expected = loss(features, torch.from_numpy(targets))
    torch.autograd.backward(expected)

    model = load_embedder(folder)
    found = task_of(model, spec, columns, targets).backward(np.arange(ROWS))
    assert found.item() == pytest.approx(expected.item(), abs=1e-4, rel=1e-5)
    ours = gradients_of(model.network.encoder)
    theirs = {key.rpartition("model.")[2]: tensor for key, tensor in gradients_of(reference).items()}
    assert ours.keys() == theirs.keys() and ours
    scale = max(float(tensor.abs().max()) for tensor in theirs.values())
    for key, gradient in theirs.items():
        assert torch.allclose(ours[key], gradient, atol=1e-5 * max(1.0, scale)), key


@pytest.mark.parametrize("dims", [[], [32, 8]])
def test_cached_gradients_equal_plain_ones_whatever_the_mini_batch(folder: Path, dims: list[int]) -> None:
    fields = {**SEARCH, "negative": "wrong", "matryoshka_dims": dims}
    plain = load_embedder(folder)
    expected = task_of(plain, spec_of(**fields), 3).backward(np.arange(ROWS))
    for size in (1, 7, 100):
        model = load_embedder(folder)
        spec = spec_of(**fields, training={"mini_batch_size": size})
        found = task_of(model, spec, 3).backward(np.arange(ROWS))
        assert found.item() == pytest.approx(expected.item(), abs=1e-5)
        for key, gradient in gradients_of(plain.network).items():
            assert torch.allclose(gradients_of(model.network)[key], gradient, atol=1e-5), key


def test_the_second_pass_of_cached_gradients_drops_what_the_first_dropped(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_embedder(tiny_bert, dropout=0.4)
    model.network.train()
    embed, passes = model.network.embed, []

    def recorded(*inputs: Any) -> torch.Tensor:
        passes.append(embed(*inputs))
        return passes[-1]

    monkeypatch.setattr(model.network, "embed", recorded)
    task = task_of(model, spec_of(**SEARCH, training={"mini_batch_size": 6}), 2)
    task.backward(np.arange(ROWS))
    first, second = passes[:4], passes[4:]
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert not any(tensor.requires_grad for tensor in first) and all(tensor.requires_grad for tensor in second)
    task.backward(np.arange(ROWS))
    assert not torch.equal(passes[8], first[0])  # dropout was at work, and other numbers were drawn since


def test_rows_set_aside_are_measured_in_mini_batches_where_training_goes_in_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = task_of(load_embedder(folder), spec_of(**SEARCH), 2).measure([np.arange(ROWS)])
    model = load_embedder(folder)
    embed, texts = model.network.embed, []

    def counted(tokens: Any, rows: Any, device: Any) -> torch.Tensor:
        texts.append(len(rows))
        return embed(tokens, rows, device)

    monkeypatch.setattr(model.network, "embed", counted)
    task = task_of(model, spec_of(**SEARCH, training={"mini_batch_size": 6}), 2)
    assert task.measure([np.arange(ROWS)]) == pytest.approx(expected, abs=1e-5)
    assert max(texts) == 6 and sum(texts) == 2 * ROWS


def test_no_batch_holds_a_text_twice_and_steps_do_not_depend_on_each_other() -> None:
    generator = np.random.default_rng(2)
    contents = np.stack([np.arange(200), 200 + generator.integers(0, 60, 200)], axis=1)
    plan = DistinctPlan(contents, 16, 2, seed=4)
    batches = [plan.rows(step) for step in range(plan.steps_total)]
    for batch in batches:
        texts = contents[batch].reshape(-1)
        assert len(np.unique(texts)) == len(texts) and len(batch)
    first_epoch = np.concatenate(batches[: plan.steps_per_epoch])
    assert len(np.unique(first_epoch)) == len(first_epoch) > 190
    assert np.array_equal(DistinctPlan(contents, 16, 2, seed=4).rows(20), batches[20])
    assert not np.array_equal(batches[0], batches[plan.steps_per_epoch])


def test_without_duplicates_every_row_is_seen_once_per_epoch() -> None:
    plan = DistinctPlan(np.arange(60).reshape(30, 2), 8, 1, seed=4)
    assert sorted(np.concatenate([plan.rows(step) for step in range(4)])) == list(range(30))


def test_batches_by_class_hold_pairs_of_one_class_and_every_row_once() -> None:
    classes = np.random.default_rng(3).integers(0, 40, 160)
    plan = TwinPlan(classes, 16, 2, seed=4)
    rows = np.concatenate([plan.rows(step) for step in range(plan.steps_per_epoch)])
    assert sorted(rows) == list(range(160))
    assert all(_with_mate(classes[plan.rows(step)]) > 0.6 for step in range(plan.steps_per_epoch))


def _with_mate(classes: np.ndarray[Any, Any]) -> float:
    """Share of the rows whose class occurs again in the batch."""
    _, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return float((counts[places] > 1).mean())
