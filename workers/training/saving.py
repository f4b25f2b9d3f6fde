"""Writes a trained classifier as a folder that `from_pretrained` loads, its manifest last."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jobspecs.manifest import Manifest, describe_files, write_manifest
from workers.training.base_model import LoadedModel

_log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "scikit-learn", "numpy")


def save_classifier(
    output_dir: Path,
    loaded: LoadedModel,
    max_length: int,
    card: str,
    metrics: dict[str, float],
    report: dict[str, Any],
) -> Manifest:
    """Weights (safetensors), config, tokenizer files, README.md, then `manifest.json`. Returns the manifest.

    The tokenizer remembers `max_length`, so that texts are cut in use as they were in training.
    """
    model = loaded.model.cpu()
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(output_dir)
    loaded.tokenizer.model_max_length = min(max_length, loaded.max_tokens)
    loaded.tokenizer.save_pretrained(output_dir)
    (output_dir / "README.md").write_text(card, encoding="utf-8")
    manifest = Manifest(
        artifact="model",
        task="text-classification",
        files=describe_files(output_dir),
        versions={name: version(name) for name in _LIBRARIES},
        metrics=metrics,
        report=report,
    )
    write_manifest(output_dir, manifest)
    _log.info("saved %d files, %d bytes", len(manifest.files), manifest.bytes_total)
    return manifest
