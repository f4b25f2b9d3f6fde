"""Which runs may go on from each other's checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from jobspecs.kinds.train_classifier import ClassifierTraining
from tests.models import labelled_texts
from workers.local_models.base_model import load_base
from workers.local_models.packed_encoder import variant_of
from workers.local_models.tokens import tokenize
from workers.training.classification.training import TrainingData, _Classification


def test_a_run_that_weighs_classes_is_another_than_one_that_does_not(tiny_bert: Path) -> None:
    loaded, rows = load_base(tiny_bert, ("bad", "good"), 42, 0.0), labelled_texts(8)
    tokens = tokenize(loaded.tokenizer, [text for text, _ in rows], 32)
    data, training = TrainingData(tokens, np.arange(8) % 2, 2), ClassifierTraining()
    told = {
        _Classification(loaded, variant_of(loaded.model), tokens, one, training, torch.device("cpu")).fingerprint()
        for one in (data, replace(data, balanced=True))
    }
    assert len(told) == 2
