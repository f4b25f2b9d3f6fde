"""What the check of every kind with classes says of them: spellings of one, and texts that stand with several."""

from __future__ import annotations

from corpus.checks.findings import Findings
from corpus.labels import contradiction_warning, contradictions, spelling_warning
from jobspecs.labels import normalized


def take_classes(found: Findings, *, normalize: bool) -> None:
    """Gives each class one spelling where the spec wants that, else warns of several."""
    if normalize:
        found.rename_groups(normalized(found.class_counts()))
    else:
        warning = spelling_warning(found.class_counts(), found.first_rows(), found.row_name, found.located)
        found.warnings += [warning] if warning is not None else []
    if (contradicting := contradictions(found.guarded_texts, found.group_numbers)) is not None:
        found.warnings.append(contradiction_warning(contradicting, found.row_name, found.located))
