from __future__ import annotations

from pathlib import Path

import pytest

from workers.daemon.instance import FolderInUse, folder_instance


def test_a_worker_that_is_restarted_on_its_folder_is_the_same_instance(tmp_path: Path) -> None:
    with folder_instance(tmp_path) as first:
        pass
    with folder_instance(tmp_path) as again, folder_instance(tmp_path / "other") as other:
        assert first == again != other


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    with folder_instance(tmp_path), pytest.raises(FolderInUse, match="EIGENWERK_SCRATCH_DIR"):
        folder_instance(tmp_path).__enter__()


def test_an_instance_that_cannot_be_read_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "worker.lock").write_text("half a", encoding="ascii")
    with folder_instance(tmp_path) as first:
        pass
    with folder_instance(tmp_path) as again:
        assert first == again
