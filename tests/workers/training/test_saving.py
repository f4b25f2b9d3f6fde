from __future__ import annotations

import re
from pathlib import Path

from workers.run.code_version import CODE
from workers.training.saving import save_model


def test_a_manifest_names_the_source_that_made_it(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    made = [
        save_model(tmp_path / name, write, card="# x\n", task=None, metrics={}, report={}) for name in ("one", "two")
    ]
    assert re.fullmatch("sha256:[0-9a-f]{64}", made[0].versions[CODE])
    assert made[0].digest == made[1].digest
