"""Answers of the platform, as its API gives them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

JOB_ID = "3f2a91c0-5d1e-4a77-9c63-0b7f8e1d2a44"
OTHER_ID = "3f77aa01-1111-4222-8333-444455556666"
AT = "2026-03-01T12:00:00+00:00"

VERDICT = {
    "model": {"system": "fine-tuned", "accuracy": 0.75, "accuracy_low": 0.7, "accuracy_high": 0.8, "macro_f1": 0.74},
    "baselines": [
        {
            "system": "TF-IDF + linear SVM",
            "accuracy": 0.7,
            "accuracy_low": 0.65,
            "accuracy_high": 0.75,
            "macro_f1": 0.69,
        }
    ],
    "helped": "yes",
    "sentence": "Fine-tuning helped: 75.0% of 750 held-out rows right, TF-IDF + linear SVM 70.0%.",
}


def data_report(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "train-classifier",
        "file": "headlines.csv",
        "rows": 1000,
        "usable": 998,
        "refused": 2,
        "refused_rows": [{"message": "the cell is empty.", "field": "headline", "row": 7}],
        "duplicates": 12,
        "tokens": {
            "counted_by": "tokenizer",
            "unit": "text",
            "sequences": 998,
            "mean": 24.0,
            "read_mean": 23.5,
            "read_deviation": 5.0,
            "p50": 24,
            "p95": 31,
            "longest": 140,
            "max_length": 64,
            "truncated": 100,
            "bins": [
                {"low": 0, "high": 49, "sequences": 898},
                {"low": 50, "high": 99, "sequences": 90},
                {"low": 100, "high": 149, "sequences": 10},
            ],
        },
        "held_out": {"unit": "row", "train": 748, "validation": 250, "leaked": 5, "first_leaked_row": 11},
        "classes": {"good": 600, "bad": 398},
        "classes_total": 2,
        **fields,
    }


def estimate(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "train-classifier",
        "parameters": 22_700_000,
        "trainable_parameters": 11_350_000,
        "main_memory": {
            "weights": 91_000_000,
            "gradients": 45_000_000,
            "optimizer": 90_000_000,
            "activations": 300_000_000,
            "runtime": 200_000_000,
        },
        "tokens": 500_000,
        "operations": 4e13,
        "duration": {"low_s": 80, "high_s": 400, "basis": "assumed"},
        **fields,
    }


def job(state: str = "queued", **fields: Any) -> dict[str, Any]:
    document = {
        "object": "job",
        "id": JOB_ID,
        "kind": "train-classifier",
        "name": "newsticker-quality",
        "owner": "admin",
        "state": state,
        "reason": None,
        "message": None,
        "remedy": None,
        "attempts": 1,
        "created_at": AT,
        "started_at": None,
        "finished_at": None,
        "spec": {"kind": "train-classifier"},
        "progress": None,
        "result": None,
        **fields,
    }
    if state == "succeeded":
        document["result"] = {
            "model": "admin/newsticker-quality@1",
            "owner": "admin",
            "name": "newsticker-quality",
            "version": 1,
            "metrics": {"validation/accuracy": 0.75},
            "report": {"verdict": VERDICT},
        }
    return document


def failed_job() -> dict[str, Any]:
    return job("failed", reason="nan_loss", message="the loss was NaN at step 3", remedy="Lower learning_rate.")


def event(cursor: str, kind: str, **fields: Any) -> str:
    return f"id: {cursor}\nevent: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"


def manifest_file(path: str, content: bytes) -> dict[str, Any]:
    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def model_version(files: dict[str, bytes], version: int = 1) -> dict[str, Any]:
    entries = [manifest_file(path, content) for path, content in files.items()]
    return {
        "object": "model.version",
        "reference": f"admin/newsticker-quality@{version}",
        "owner": "admin",
        "name": "newsticker-quality",
        "version": version,
        "digest": "d" * 64,
        "bytes": sum(len(content) for content in files.values()),
        "task": "text-classification",
        "metrics": {"validation/accuracy": 0.75},
        "job_id": None,
        "created_at": AT,
        "manifest": {"schema_version": 1, "artifact": "model", "task": "text-classification", "files": entries},
    }


def dataset(**fields: Any) -> dict[str, Any]:
    return {
        "object": "dataset.version",
        "reference": "admin/headlines@1",
        "owner": "admin",
        "name": "headlines",
        "version": 1,
        "file_name": "headlines.csv",
        "bytes": 20,
        "sha256": "a" * 64,
        "rows": 2,
        "columns": ["headline", "quality"],
        "created_at": AT,
        "profile": {
            "rows": 2,
            "columns": {
                "headline": {"kind": "text", "empty": 0, "distinct": 1000, "distinct_capped": True, "values": {}},
                "quality": {"kind": "text", "empty": 1, "distinct": 2, "values": {"good": 2, "bad": 1}},
            },
        },
        **fields,
    }


def deployment(state: str = "ready", **fields: Any) -> dict[str, Any]:
    return {
        "object": "deployment",
        "name": "newsticker-quality",
        "owner": "admin",
        "model": "admin/newsticker-quality@1",
        "version": 1,
        "engine": "embedded",
        "replicas": 1,
        "memory_bytes": 1,
        "state": state,
        "reason": None,
        "message": None,
        "host": "here",
        "answers": answers(),
        "candidate": None,
        "created_at": AT,
        "updated_at": AT,
        **fields,
    }


def answers(requests: int = 0, errors: int = 0) -> dict[str, Any]:
    rate, times_s = (errors / requests, (0.012, 0.25)) if requests else (None, (None, None))
    return {"requests": requests, "errors": errors, "error_rate": rate, "p50_s": times_s[0], "p95_s": times_s[1]}


def candidate(percent: int = 10) -> dict[str, Any]:
    return {
        "model": "admin/newsticker-quality@2",
        "traffic_percent": percent,
        "state": "ready",
        "message": None,
        "answers": answers(50, 1),
    }


def error(message: str, code: str, problems: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "x", "param": None, "code": code, "problems": problems or []}}


_BAND = {"low_s": 10.0, "high_s": 20.0, "basis": "assumed"}
PIPELINE_FORECAST = {
    "name": "chain",
    "steps": [{"name": "train", "kind": "train-classifier", "needs": [], "memory_bytes": 1 << 30}],
    "duration": _BAND,
    "work": _BAND,
}


SWEEP_FORECAST = {"name": "rates", "trials": 2, "metrics": ["macro_f1"], "memory_bytes": 1 << 30, "trial": _BAND}
SWEEP_FORECAST |= {"work": _BAND, "duration": _BAND, "first": [{"training.learning_rate": 1e-5}]}


def sweep(state: str = "running") -> dict[str, Any]:
    """Trial 2 is the best, trial 3 was behind, and the winner is being confirmed."""

    def trial(number: int, state: str, **more: Any) -> dict[str, Any]:
        rate = {"training.learning_rate": number * 1e-5}
        return {"number": number, "values": rate, "state": state, "started_at": AT, "steps": 50, **more}

    measured = {"value": 0.8, "low": 0.7, "high": 0.9, "job_id": JOB_ID, "result": "admin/rates-trial@1"}
    trials = [
        trial(2, "succeeded", **measured),
        trial(1, "succeeded", **{**measured, "value": 0.75, "low": None}),
        trial(3, "stopped", reason="behind", rungs=[0.6]),
    ]
    return {
        "id": JOB_ID,
        "name": "rates",
        "owner": "admin",
        "state": state,
        "created_at": AT,
        "trials_total": 3,
        "trial_states": {"succeeded": 2, "stopped": 1},
        "metrics": ["macro_f1"],
        "trials": trials,
        "winner": 2,
        "confirmation": trial(0, "succeeded", **{**measured, "result": "admin/newsticker-quality@2"}),
    }


def pipeline(state: str = "running") -> dict[str, Any]:
    """One step has succeeded, and the next one's condition was false."""
    made = {"type": "model", "reference": "admin/newsticker-quality@2", "metrics": {"validation/accuracy": 0.7}}
    train = {"name": "train", "kind": "train-classifier", "state": "succeeded", "job_id": JOB_ID, "result": made}
    promote = {
        "name": "promote",
        "kind": "alias",
        "state": "skipped",
        "reason": "condition_false",
        "message": "$train.accuracy is 0.7.",
        "needs": ["train"],
    }
    serve = {
        "name": "serve",
        "kind": "deploy",
        "state": "skipped",
        "reason": "needs_skipped",
        "needs": ["train", "promote"],
    }
    return {
        "id": JOB_ID,
        "name": "chain",
        "owner": "admin",
        "state": state,
        "created_at": AT,
        "step_states": {"succeeded": 1, "skipped": 2},
        "steps": [train, promote, serve],
    }
