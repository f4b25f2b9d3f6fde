"""A folder as transformers 4.51 understands it, which is what text-generation-inference has: for engines that are not
here.

That version reads `rope_theta` and `rope_scaling` at the top of config.json, passes over `rope_parameters` without a
word, and finds a chat template in tokenizer_config.json only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workers.engines.tgi.export import export_model

_CONFIG, _TEMPLATE = "config.json", "chat_template.jinja"
#: Where a configuration says nothing.
_ROPE_THETA = 10_000.0


def as_read_by_4(model_dir: Path, folder: Path) -> Path:
    """Fills `folder` with what a deployment to TGI is given, written so that this transformers reads what 4.51 would.

    Raises RunFailed(invalid_model) as `export_model` does.
    """
    export_model(model_dir, folder)
    config: dict[str, Any] = json.loads((folder / _CONFIG).read_bytes())
    rope = {"rope_type": "default", **(config.pop("rope_scaling", None) or {})}
    config["rope_parameters"] = {**rope, "rope_theta": config.pop("rope_theta", _ROPE_THETA)}
    (folder / _CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / _TEMPLATE).unlink(missing_ok=True)
    return folder
