from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_jax_that_is_installed_is_not_imported_and_can_be_afterwards(tmp_path: Path) -> None:
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").touch()
    (tmp_path / "jax" / "lax.py").write_text("def top_k(scores, k): raise SystemExit('jax computes')")
    look = "import sys, workers.judging.bm25; assert 'jax' not in sys.modules; import jax.lax"
    paths = os.pathsep.join(filter(None, [str(tmp_path), *sys.path]))
    ended = subprocess.run(
        [sys.executable, "-c", look],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
