"""Writes a trained model as a folder that `from_pretrained` loads, its manifest last."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jobspecs.manifest import CARD, DatasetOrigin, Manifest, ModelOrigin, describe_files, write_manifest
from jobspecs.verification import Verification
from workers.judging.held_out_file import Judged
from workers.local_models.base_model import LoadedModel
from workers.run.code_version import CODE, code_digest

_log = logging.getLogger(__name__)

#: The platform's own code among them.
_LIBRARIES = ("eigenwerk", "torch", "transformers", "tokenizers", "safetensors", "scikit-learn", "numpy")


def save_model(
    output_dir: Path,
    write: Callable[[Path], None],
    *,
    card: str,
    task: str | None,
    metrics: dict[str, float],
    report: dict[str, Any],
    judged: Judged | None = None,
    datasets: Mapping[str, DatasetOrigin] | None = None,
    base: ModelOrigin | None = None,
    libraries: tuple[str, ...] = (),
    verification: Verification | None = None,
) -> Manifest:
    """What `write` puts into the folder, what was `judged`, README.md, then `manifest.json`. Returns the manifest.

    The card tells where the rows of `datasets` (role -> what it is) came from, where that is known. `base` is set for
    adapters. `libraries` are named in the manifest beside those that every model is made with.
    """
    write(output_dir)
    card += _provenance(datasets or {})
    if judged is not None:
        kept = judged.write(output_dir)
        card = f"{card}## Held-out predictions\n\n{kept.sentence}\n"
        report = {**report, "held_out": kept.as_json()}
    (output_dir / CARD).write_text(card, encoding="utf-8")
    manifest = Manifest(
        artifact="model",
        task=task,
        base=base,
        files=describe_files(output_dir),
        versions={name: version(name) for name in (*_LIBRARIES, *libraries)} | {CODE: code_digest()},
        metrics=metrics,
        verification=verification,
        report=report,
    )
    write_manifest(output_dir, manifest)
    _log.info("saved %d files, %d bytes", len(manifest.files), manifest.bytes_total)
    return manifest


def _provenance(datasets: Mapping[str, DatasetOrigin]) -> str:
    """A section of the card; empty where nobody said where the rows came from."""
    lines = []
    for dataset in dict.fromkeys(datasets.values()):
        if dataset.origin or dataset.license:
            licence = f"licence {dataset.license}" if dataset.license else "its licence is not told"
            lines.append(f"- `{dataset.reference}`: {dataset.origin or 'pushed as a file'}, {licence}")
    said = "\n".join(lines)
    return f"## Where the rows came from\n\n{said}\n\n" if lines else ""


def write_classifier(output_dir: Path, loaded: LoadedModel, max_length: int) -> None:
    """Weights (safetensors), config, tokenizer files.

    The tokenizer remembers `max_length`, so that texts are cut in use as they were in training.
    """
    model = loaded.model.cpu()
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(output_dir)
    loaded.tokenizer.model_max_length = min(max_length, loaded.max_tokens)
    loaded.tokenizer.save_pretrained(output_dir)
