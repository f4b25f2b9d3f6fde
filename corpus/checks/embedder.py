"""`train-embedder`: anchors with what belongs to them, pairs with scores, or texts with labels."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from corpus.cells import label_cell, score_cell, text_cell
from corpus.checks.classes import take_classes
from corpus.checks.findings import ROWS_KEPT_MAX, Findings
from corpus.checks.identifiers import Identifiers
from corpus.checks.remarks import remarks_of_label, remarks_of_text
from corpus.checks.rows import CheckedFile, Rows, UsableRow, table_rows
from corpus.labels import choosing_twins_warnings, twins_of, twins_warnings
from corpus.pair_splits import overlap_of, tied_split
from corpus.rankings import check_scores
from corpus.splits import SplitRows
from jobspecs.kinds.train_embedder import TrainEmbedder


class EmbedderData:
    """Implements `corpus.checks.rows.Validator`.

    A leak is a held-out anchor, pair or labelled text that is trained on. One sentence of a scored pair may be on both
    sides: it stands beside another one there.
    """

    split_unit, skips_bad_rows = "row", False
    max_length_field = "training.max_length"

    def __init__(self, spec: TrainEmbedder) -> None:
        self._spec = spec
        self.unit = "text"
        self._identifiers = Identifiers()
        self._scores = array("f")
        self.classes = spec.label is not None
        self.max_length = spec.training.max_length
        self.max_length_chosen = "max_length" in spec.training.model_fields_set
        self.batch_size: int | None = spec.training.batch_size

    def rows(self, file: CheckedFile) -> Rows:
        targets = [column for column in (self._spec.score, self._spec.label) if column is not None]
        return table_rows(file, [*(column for _, column in self._spec.text_columns), *targets], self._row)

    def split(self, found: Findings) -> SplitRows:
        found.warnings += self._identifiers.warnings()
        spec = self._spec
        if spec.label is not None:
            take_classes(found, normalize=spec.data.normalize_labels)
        fields = [field for field, _ in spec.text_columns]
        texts = found.tied_texts(len(fields))
        own = texts[:, [0, len(fields) - len(spec.negatives) - 1]]
        split = tied_split(spec, roles=found.roles, texts=texts, own=own)
        found.overlap = overlap_of(split, texts, fields)
        if spec.score is not None:
            check_scores(np.array(self._scores)[split.validation])
        if spec.label is not None:
            twins = twins_of(split, found.group_numbers, list(found.groups))
            found.warnings += twins_warnings(twins)
            if spec.training.epochs == "auto":
                found.warnings += choosing_twins_warnings(found.group_numbers[split.choosing])
        return split

    def _row(self, number: int, row: dict[str, Any]) -> UsableRow:
        spec = self._spec
        texts = [text_cell(row[column], column, None, number) for _, column in spec.text_columns]
        self._identifiers.add(dict(zip((column for _, column in spec.text_columns), texts, strict=True)))
        target = ""
        if spec.score is not None:
            score = score_cell(row[spec.score], spec.score, spec.score_range, None, number, only_ends=spec.only_ends)
            if len(self._scores) < ROWS_KEPT_MAX:
                self._scores.append(score)
            target = str(score)
        elif spec.label is not None:
            target = label_cell(row[spec.label], spec.label, None, number)
        # A pair is the same pair the other way round.
        guarded = "\0".join(sorted(texts)) if spec.shape == "scored-pairs" else texts[0]
        group = target if spec.label is not None else ""
        return UsableRow(
            number,
            self._read(texts),
            content="\0".join((*texts, target)),
            guarded=guarded,
            group=group,
            tied=texts,
            remarks=[
                *(remarks_of_label(row[spec.label], target) if spec.label is not None else ()),
                *(
                    remark
                    for (_, column), text in zip(spec.text_columns, texts, strict=True)
                    for remark in remarks_of_text(text, column)
                ),
            ],
        )

    def _read(self, texts: list[str]) -> list[str]:
        """The texts as the model reads them, prompts included."""
        prompts = self._spec.prompts
        if self._spec.shape != "triplets":
            return [prompts.text + text for text in texts]
        return [prompts.query + texts[0], *(prompts.passage + text for text in texts[1:])]
