"""What the chat template of a model can do, where its engine would pass over what it can't."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from api.errors import ApiError
from api.inference.engine import Deployed, relay
from api.parts import Parts

#: A text that no template writes by itself.
_NAME = "qzname"
_FUNCTION = {"name": _NAME, "description": _NAME, "parameters": {"type": "object", "properties": {}}}
_ASKED = {
    "messages": [{"role": "user", "content": "a"}],
    "tools": [{"type": "function", "function": _FUNCTION}],
}


async def check_tools(parts: Parts, engine: Deployed, body: Mapping[str, Any]) -> None:
    """Raises ApiError 422 where the chat offers tools and the model's template does not tell the model of any."""
    route = engine.kind.template_route
    if route is None or not body.get("tools") or body.get("tool_choice") == "none":
        return
    answer = await relay(parts, engine, "POST", route, json.dumps(_ASKED).encode())
    if answer.is_success and _NAME not in answer.text:
        message = "tools: the model's chat template does not tell the model of tools. Take one whose template does."
        raise ApiError(422, message, param="tools")
