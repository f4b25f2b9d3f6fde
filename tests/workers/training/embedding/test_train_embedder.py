"""A whole job: what it is given, what it refuses, what it says and what it leaves behind."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from transformers import pipeline

from corpus.checks.findings import text_hashes
from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from jobspecs.dialect import named_columns
from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, describe_files, read_manifest
from jobspecs.problems import InvalidInput
from jobspecs.registry import parse_spec
from storage.tabular import detect_format, profile_table
from tests.models import BAD_WORDS, GOOD_WORDS
from tests.workers.training.embedding.embedder_attempts import (
    CLASSES,
    PAIRS,
    SEARCH,
    EmbedderAttempt,
    questions,
    scored_pairs,
    write_table,
)
from tests.workers.training.kept import Kept, assert_told_again
from workers.judging.embedding_verdict import Search
from workers.judging.ranking_verdict import spearman
from workers.local_models.embedding_model import load_embedder, write_embedder
from workers.run.context import RunFailed
from workers.training.embedding.data import load_rows, prompted, split_rows
from workers.training.embedding.exam import exam_of
from workers.training.embedding.negatives import mine_negatives

COMMON: dict[str, Any] = {"kind": "train-embedder", "name": "x", "model": "m@1", "dataset": "d@1"}


def spec_of(**fields: Any) -> TrainEmbedder:
    return TrainEmbedder.model_validate({**COMMON, **fields})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("pairs") / "pairs.csv", ("a", "b", "likeness"), scored_pairs(240))


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("search") / "search.csv", ("question", "answer"), questions(240))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, pairs: Path) -> Path:
    attempt = EmbedderAttempt(tmp_path_factory.mktemp("trained"), tiny_bert, pairs)
    settings = {"epochs": 6, "learning_rate": 4e-3, "checkpoint_every_steps": 1000}
    attempt.run(**PAIRS, training=settings, prompts={"text": "a report "}, matryoshka_dims=[32, 16], truncate_dim=16)
    return attempt.root / "out"


def systems_of(manifest: Manifest) -> dict[str, float]:
    return {system["system"]: system["value"] for system in manifest.report["verdict"]["systems"]}


def test_sentence_transformers_loads_the_result_and_gives_the_same_embeddings(trained: Path) -> None:
    texts = ["spring in the garden", "", "storm " * 100]
    reference, model = SentenceTransformer(str(trained), device="cpu"), load_embedder(trained)
    # The default prompt stands under the library's names too: it would put nothing before queries and documents else.
    assert set(model.prompts) == {"text", "query", "document"} and set(model.prompts.values()) == {"a report "}
    assert model.dimensions == 16 and model.max_tokens == 32
    assert reference.encode(texts).shape == (3, 16)
    assert np.allclose(reference.encode(texts, normalize_embeddings=True), model.encode(texts), atol=1e-5)


def test_similarity_and_features_of_other_libraries_are_those_of_the_engine(trained: Path) -> None:
    library, model = SentenceTransformer(str(trained), device="cpu"), load_embedder(trained)
    texts = ["spring in the garden", "a storm", "the river"]
    ours = model.encode(texts)
    cosines = library.similarity(library.encode_query(texts), library.encode_document(texts))
    assert np.allclose(cosines, ours @ ours.T, atol=1e-5)
    features = pipeline("feature-extraction", model=str(trained), device="cpu")
    for text, expected in zip(texts, ours, strict=True):
        mean = np.array(features("a report " + text)[0]).mean(axis=0)[: model.dimensions]
        assert np.allclose(mean / np.linalg.norm(mean), expected, atol=1e-5)


@pytest.mark.parametrize(
    "prompts",
    [
        {"query": "a storm ", "passage": "the garden "},
        {"query": "a storm "},
        {"text": "a report "},
        {"passage": "a "},
    ],
)
def test_the_librarys_own_methods_put_the_same_prompts_before_queries_and_documents(
    prompts: dict[str, str], tmp_path: Path, tiny_bert: Path
) -> None:
    model = load_embedder(tiny_bert)
    model.prompts, model.default_prompt_name = prompts, "text" if "text" in prompts else None
    write_embedder(tmp_path, model)
    library, again = SentenceTransformer(str(tmp_path), device="cpu"), load_embedder(tmp_path)
    texts = ["spring in the garden", "storm"]
    for encode, side in ((library.encode_query, "query"), (library.encode_document, "passage")):
        before = model.prompt_before(side)  # type: ignore[arg-type]
        expected = model.encode_tokens(model.tokenize([before + text for text in texts]))
        assert np.allclose(encode(texts, normalize_embeddings=True), expected, atol=1e-5)
        assert again.prompt_before(side) == before  # type: ignore[arg-type]


def test_a_base_with_prompts_of_its_own_is_trained_and_judged_with_them(
    tmp_path: Path, tiny_bert: Path, search: Path
) -> None:
    base = load_embedder(tiny_bert)
    base.prompts, base.default_prompt_name = {"query": "a storm ", "document": "the garden "}, None
    (tmp_path / "base").mkdir()
    write_embedder(tmp_path / "base", base)
    trained = {}
    runs: list[tuple[str, Path, dict[str, Any]]] = [
        ("own", tmp_path / "base", {}),
        ("given", tiny_bert, {"prompts": {"query": "a storm ", "passage": "the garden "}}),
    ]
    for name, model, given in runs:
        attempt = EmbedderAttempt(tmp_path / name, model, search)
        trained[name] = attempt.run(**SEARCH, **given).metrics
    assert trained["own"] == pytest.approx(trained["given"])


def test_the_artifact_holds_what_its_manifest_names_and_no_more(trained: Path) -> None:
    manifest = read_manifest(trained)
    assert manifest.task == "sentence-similarity" and manifest.files == describe_files(trained)
    assert {file.path for file in manifest.files} == {
        "1_Pooling/config.json",
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "evaluation/held-out.parquet",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert "/tmp" not in "".join((trained / file.path).read_text(errors="replace") for file in manifest.files)


def test_likeness_is_learned_and_the_verdict_compares_with_base_and_words(trained: Path) -> None:
    manifest = read_manifest(trained)
    verdict, values = manifest.report["verdict"], systems_of(manifest)
    assert list(values) == ["trained", "base model", "TF-IDF cosine"]
    assert values["trained"] > 0.8 > values["base model"] and verdict["helped"] == "yes"
    assert verdict["sentence"].startswith("Training helped: Spearman 0.")
    assert verdict["systems"][0]["low"] < values["trained"] < verdict["systems"][0]["high"]
    assert manifest.metrics["validation/spearman"] == values["trained"]
    assert manifest.metrics["validation/spearman_dim16"] == pytest.approx(values["trained"])
    card = (trained / "README.md").read_text(encoding="utf-8")
    assert "| base model |" in card and 'prompt_name="text"' in card
    assert_told_again(trained)
    kept = Kept(trained)
    assert manifest.metrics["validation/spearman_dim32"] == pytest.approx(
        spearman(kept["score"], kept["trained_dim32"])
    )


@pytest.mark.parametrize("fields", [{}, {"hard_negatives": {"num_negatives": 2, "range_max": 10}}])
def test_a_search_is_judged_by_ndcg_and_recall_against_bm25(
    fields: dict[str, Any], tmp_path: Path, tiny_bert: Path, search: Path
) -> None:
    attempt = EmbedderAttempt(tmp_path, tiny_bert, search)
    manifest = attempt.run(**SEARCH, **fields, training={"epochs": 8, "checkpoint_every_steps": 1000, "dropout": 0.0})
    values = systems_of(manifest)
    assert list(values) == ["trained", "base model", "BM25"]
    assert manifest.report["verdict"]["metric"] == "ndcg_at_10"
    assert values["trained"] > values["base model"] + 0.1
    assert manifest.metrics["validation/recall_at_100"] >= manifest.metrics["validation/recall_at_1"] > 0
    assert manifest.report["rows"]["rows_in_both"] == 0
    assert_told_again(attempt.root / "out")
    asked = [question for question, _ in questions(240)]
    kept = Kept(attempt.root / "out")
    assert kept["text"].tolist() == text_hashes(asked[row - 1] for row in kept["row"]).tolist()
    if fields:
        rows = manifest.report["rows"]
        assert rows["mined"] + rows["drawn_by_chance"] == 2 * rows["train"]


def test_texts_with_classes_are_judged_by_finding_their_class(tmp_path: Path, tiny_bert: Path) -> None:
    rows = [(first, "good" if score > 2.5 else "bad") for first, _, score in scored_pairs(80)]
    data = write_table(tmp_path / "classes.csv", ("text", "topic"), rows)
    attempt = EmbedderAttempt(tmp_path, tiny_bert, data)
    manifest = attempt.run(**CLASSES)
    assert_told_again(attempt.root / "out")
    assert manifest.report["loss"] == "batch-hard-triplet" and manifest.report["verdict"]["metric"] == "ndcg_at_10"


def test_rows_that_share_a_text_are_on_one_side_and_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    rows = [(f"the {row // 3}", f"a {row // 2}", row % 5) for row in range(0, 120)]
    rows += [(f"chain {row}", f"chain {row + 1}", 1) for row in range(30)]
    path = write_table(tmp_path / "chain.csv", ("a", "b", "likeness"), rows)
    loaded = load_rows(parts_of(CheckedFile.of(path)), spec_of(**PAIRS))
    split, again = (split_rows(loaded, spec_of(**PAIRS)) for _ in range(2))
    assert split.rows_in_both == 0 and len(split.train) + len(split.validation) == 150
    assert 20 <= len(split.validation) <= 38
    assert np.array_equal(split.validation.columns, again.validation.columns)
    other = split_rows(loaded, spec_of(**PAIRS, validation={"seed": 1}))
    assert not np.array_equal(split.validation.columns, other.validation.columns)


def test_where_one_text_ties_all_rows_together_anchors_keep_the_sides_apart(tmp_path: Path) -> None:
    rows = [(f"the {row // 2}", f"answer {row % 3}") for row in range(60)]
    path = write_table(tmp_path / "tied.csv", ("question", "answer"), rows)
    split = split_rows(load_rows(parts_of(CheckedFile.of(path)), spec_of(**SEARCH)), spec_of(**SEARCH))
    anchors = [set(part.column(0)) for part in (split.train, split.validation)]
    assert not anchors[0] & anchors[1] and 10 <= len(split.validation) <= 15


def test_held_out_questions_look_among_all_passages_and_those_of_one_answer_are_one_witness(tmp_path: Path) -> None:
    rows = [(f"question {n}", f"answer {n // 4}") for n in range(40)]
    path = write_table(tmp_path / "shared.csv", ("question", "answer"), rows)
    split = split_rows(load_rows(parts_of(CheckedFile.of(path)), spec_of(**SEARCH)), spec_of(**SEARCH))
    exam = exam_of(split, seed=1)
    assert len(set(split.validation.column(1))) < len(exam.candidates) == 10
    assert isinstance(exam.truth, Search) and exam.truth.clusters is not None
    assert len(exam.queries) == 4 * (exam.truth.clusters.max() + 1) == len(split.validation)
    vectors = np.eye(10, dtype=np.float32)[[exam.candidates.index(text) for text in split.validation.column(1)]]
    perfect = exam.answers(vectors, np.eye(10, dtype=np.float32))
    # Eight questions over two answers prove nothing, however sure.
    assert exam.judge({"trained": perfect, "BM25": np.zeros_like(perfect)}).helped == "unclear"


def test_the_same_text_gets_the_prompt_of_its_column(tmp_path: Path) -> None:
    path = write_table(tmp_path / "same.csv", ("question", "answer"), [("a", "b"), ("b", "a"), ("c", "a"), ("d", "b")])
    spec = spec_of(**SEARCH, prompts={"query": "ask: "})
    texts, places = prompted(load_rows(parts_of(CheckedFile.of(path)), spec), spec.prompts)
    assert [[texts[place] for place in row] for row in places[:2]] == [["ask: a", "b"], ["ask: b", "a"]]
    assert len(texts) == 6


def test_a_file_without_a_header_takes_the_names_it_was_pushed_with(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv.gz"
    path.write_bytes(gzip.compress(b"one,two,1\nthree,four,5\nfive,six,0\nseven,eight,2.5\n"))
    rows = load_rows(parts_of(CheckedFile.of(path, named_columns(("a", "b", "likeness")))), spec_of(**PAIRS))
    assert rows.column(0)[0] == "one" and rows.targets is not None
    assert rows.targets.tolist() == pytest.approx([0.2, 1.0, 0.0, 0.5])


def test_mined_negatives_keep_their_distance_and_never_answer(tmp_path: Path) -> None:
    rows = [("q1", "x"), ("q1", "y"), ("q2", "z"), ("q3", "q1"), ("q4", "w")]
    path = write_table(tmp_path / "mine.csv", ("question", "answer"), rows)
    spec = spec_of(**SEARCH, hard_negatives={"relative_margin": 0.2, "range_max": 3})
    angles = {"q1": 0.0, "x": 0.1, "y": 0.9, "z": 0.15, "w": 0.8, "q2": 0.2, "q3": 1.0, "q4": 0.85}

    def embed(texts: Any, prompt: str) -> np.ndarray[Any, Any]:
        return np.array([[np.cos(angles[text]), np.sin(angles[text])] for text in texts], dtype=np.float32)

    loaded = load_rows(parts_of(CheckedFile.of(path)), spec)
    mined = mine_negatives(loaded, embed, spec.hard_negatives or pytest.fail(), seed=1)
    assert mined.rows.fields == ("anchor", "positive", "negative")
    # z is too close to q1's first answer, x and y are answers and q1 is the anchor: w is what is left.
    assert (mined.rows.column(2)[0], mined.rows.column(2)[4]) == ("w", "z")
    # The other three anchors have nothing within their margins.
    assert (mined.mined, mined.drawn) == (2, 3)
    for row in mined.rows.columns:
        assert row[2] not in row[:2]


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        ([("a", "b", "5"), ("a", " ", "1"), ("c", "d", "2"), ("e", "f", "1")], PAIRS, "row 2: the cell is empty"),
        ([("a", "b", "5"), ("a", "c", "1"), ("c", "d", "7"), ("e", "f", "1")], PAIRS, "row 3: 7 is not between 0"),
        ([("a", "b", "5"), ("a", "c", "much"), ("c", "d", "2"), ("e", "f", "1")], PAIRS, "row 2: 'much' is not a num"),
        ([("a", "b", "5")], PAIRS, "has 1 rows; 4 are needed"),
        (
            [("a", "b", "5"), ("c", "d", "2"), ("e", "f", "0"), ("g", "h", "0")],
            {**PAIRS, "loss": "contrastive"},
            "row 2: 2 is neither end",
        ),
        ([("same", f"b{row}", "1") for row in range(9)], PAIRS, "all rows share their first text"),
    ],
)
def test_bad_rows_are_refused_with_their_number(
    rows: list[tuple[Any, ...]], fields: dict[str, Any], message: str, tmp_path: Path, tiny_bert: Path
) -> None:
    data = write_table(tmp_path / "bad.csv", ("a", "b", "likeness"), rows)
    with pytest.raises(RunFailed, match=message) as refused:
        EmbedderAttempt(tmp_path, tiny_bert, data).run(**fields)
    assert refused.value.reason is Reason.invalid_dataset


def test_more_dimensions_than_the_base_model_has_are_refused(tmp_path: Path, tiny_bert: Path, pairs: Path) -> None:
    with pytest.raises(RunFailed, match="has 32 dimensions; the spec asks for 64"):
        EmbedderAttempt(tmp_path, tiny_bert, pairs).run(**PAIRS, matryoshka_dims=[64, 32])


@pytest.mark.parametrize(
    ("judges", "message"),
    [("001", "no class has two of the 16 held-out texts"), ("011", "not two of each of two classes"), ("0011", None)],
)
def test_classes_without_two_texts_on_a_side_are_refused_and_single_ones_told(
    judges: str, message: str | None, tmp_path: Path, tiny_bert: Path
) -> None:
    """`judges`: of each of 16 classes the texts that train (0) and judge (1)."""
    texts = [(f"the {word} {n}", word, use) for word in GOOD_WORDS + BAD_WORDS for n, use in enumerate(judges)]
    rare = [("spring and rust", "Rare", "0")] if message is None else []
    data = write_table(tmp_path / "c.csv", ("text", "topic", "part"), [*texts, *rare])
    attempt = EmbedderAttempt(tmp_path, tiny_bert, data)
    fields: dict[str, Any] = {**CLASSES, "validation": {"column": "part", "values": ["1"]}}
    report = check_data(spec_of(**fields), CheckedFile.of(data), Reader.load(tmp_path))
    assert report is not None
    if message is not None:
        with pytest.raises(RunFailed, match=message):
            attempt.run(**fields)
        assert message in report.problems[0].message
        return
    manifest = attempt.run(**fields)
    told = "1 of 17 classes have one text to train on ('Rare'): nothing to be near."
    assert told in (attempt.root / "out" / "README.md").read_text(encoding="utf-8")
    assert told in [warning.message for warning in report.warnings]
    assert manifest.report["classes"] == {"train": 17, "alone": ["Rare"]}


def test_labels_of_one_class_are_named_and_read_as_one_where_the_spec_wants_that(tmp_path: Path) -> None:
    words = ("Garten", "garten ", "Sturm", "STURM")
    path = write_table(tmp_path / "c.csv", ("text", "topic"), [(f"t{row}", words[row % 4]) for row in range(40)])
    for normalize in (False, True):
        spec = spec_of(**CLASSES, data={"normalize_labels": normalize})
        rows = load_rows(parts_of(CheckedFile.of(path)), spec)
        report = check_data(spec, CheckedFile.of(path), Reader.load(tmp_path))
        assert report is not None and report.classes is not None
        assert set(report.classes) == set(rows.classes) and len(rows.classes) == (2 if normalize else 4)
        assert any("mean the same" in warning.message for warning in report.warnings) != normalize
        assert len(rows.renamed) == (2 if normalize else 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"anchor": "question"}, "also need the column for: positive"),
        ({}, "name the columns of one shape"),
        ({**SEARCH, **CLASSES}, "name the columns of one shape"),
        ({**PAIRS, "loss": "mnrl"}, "does not learn from pairs with scores"),
        ({**SEARCH, "loss": "triplet"}, "needs a negative"),
        ({**PAIRS, "hard_negatives": {}}, "mined for anchor and positive"),
        ({**SEARCH, "static": True, "loss": "cached-mnrl"}, "no activations to save"),
        ({**PAIRS, "score_range": [5, 0]}, "from the least score"),
        ({**PAIRS, "data": {"normalize_labels": True}}, "these rows have none"),
        ({**CLASSES, "validation": {"by": "both"}}, "these have one"),
    ],
)
def test_specs_whose_parts_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_spec({**COMMON, **fields})


def test_losses_are_chosen_by_the_data_and_known_by_their_short_names() -> None:
    chosen = [spec_of(**fields).loss_name for fields in (PAIRS, SEARCH, CLASSES)]
    assert chosen == ["cosent", "multiple-negatives-ranking", "batch-hard-triplet"]
    assert spec_of(**SEARCH, training={"mini_batch_size": 8}).loss_name == "cached-multiple-negatives-ranking"
    assert spec_of(**SEARCH, loss="mnrl").loss == "multiple-negatives-ranking"
    assert spec_of(**PAIRS, static=True).training.learning_rate == 1e-2
    mining = spec_of(**SEARCH, hard_negatives={"model": "other@2"})
    assert mining.model_references() == {"model": "m@1", "negatives": "other@2"}
    assert parse_spec(mining.model_dump(mode="json")) == mining


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({**PAIRS, "sentence2": "c"}, "sentence2", "no column 'c'"),
        ({**PAIRS, "sentence2": "a"}, "sentence2", "named twice"),
        ({**PAIRS, "score_range": [0, 1]}, "score_range", "which is not from 0 to 1"),
        ({**PAIRS, "score": "b", "sentence2": "likeness"}, "score", "holds text, not numbers"),
        ({**PAIRS, "loss": "contrastive"}, "loss", "contrastive needs scores of 0"),
        ({"text": "a", "label": "b"}, "label", "two classes"),
    ],
)
def test_a_spec_that_cannot_work_on_a_data_set_is_told_so_at_submit(
    fields: dict[str, Any], field: str, message: str, pairs: Path
) -> None:
    profile = profile_table(pairs, detect_format(pairs.name), pairs.name)
    assert spec_of(**PAIRS).problems_with(profile) == []
    (problem,) = spec_of(**fields).problems_with(profile)
    assert problem.field == field and message in str(problem)
