"""Who an answer says that it is from: whatever the request called it, as at OpenAI's.

Engines know a model by names of their own, of a version, of an adapter, or of a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from api.inference.engine import Deployed
from jobspecs.engines import CHAT, COMPLETIONS, EMBEDDED

#: Within a text of the answer its quotation marks would be escaped.
_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')


def renaming(engine: Deployed, path: str, called: Any) -> Callable[[bytes], bytes]:
    """What makes the engine's documents, whole or whole events, name the model as the request `called` it."""
    # The embedded engine says it as it was asked; other routes say nothing of a model.
    if engine.kind is EMBEDDED or path not in (CHAT, COMPLETIONS) or not isinstance(called, str):
        return lambda content: content
    named = b'"model":' + json.dumps(called).encode()
    return lambda content: _MODEL.sub(lambda _: named, content)
