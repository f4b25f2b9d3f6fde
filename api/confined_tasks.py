"""What may run in the processes that read foreign bytes. Imported by the zygote: no HTTP, no SQL, no object store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api.registry.imported_files import adapter_base, check_import, check_import_file, shards_named
from corpus.batch_requests import check_requests
from corpus.checks.confined import check
from corpus.comparing import compare
from corpus.conversations.sandbox import render
from scheduling.estimates.gguf import known_facts
from scheduling.estimates.shapes import shape_of_file
from storage.tabular import first_rows, profile_table

TASKS: dict[str, Callable[..., Any]] = {
    "profile": profile_table,
    "first_rows": first_rows,
    "model_file": check_import_file,
    "import": check_import,
    "shards": shards_named,
    "adapter": adapter_base,
    "shape": shape_of_file,
    "gguf": known_facts,
    "check": check,
    "batch_requests": check_requests,
    "render": render,
    "compare": compare,
}
