"""How OpenAI's chats offer tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from jobspecs.dialects import Request

#: Most tools of one request.
TOOLS_MAX = 128

FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Function(Request):
    """What can be called; `parameters`: the JSON schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    #: A call that must be made keeps to the schema in any case.
    strict: bool | None = None


class Tool(Request):
    type: Literal["function"]
    function: Function


class ChosenFunction(Request):
    name: FunctionName


class ChosenTool(Request):
    """The one that is to be called."""

    type: Literal["function"] = "function"
    function: ChosenFunction


class Tooled(Request):
    """The fields of a chat that are about tools."""

    tools: Annotated[list[Tool], Field(max_length=TOOLS_MAX)] | None = None
    tool_choice: Literal["auto", "none", "required"] | ChosenTool | None = None

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model is told of, as templates read them."""
        if self.tool_choice == "none":
            return []
        return [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in self.tools or ()]

    @property
    def forced(self) -> list[dict[str, Any]]:
        """The functions of which one has to be called; none where the model may choose."""
        functions = [tool["function"] for tool in self.offered]
        if isinstance(self.tool_choice, ChosenTool):
            wanted = self.tool_choice.function.name
            return [function for function in functions if function["name"] == wanted]
        return functions if self.tool_choice == "required" else []

    def tools_problem(self) -> tuple[str, str] | None:
        """The field that asks for a call which can't be, and why."""
        if not isinstance(self.tool_choice, ChosenTool) and self.tool_choice != "required":
            return None
        if not self.tools:
            return "tool_choice", "there are no tools to call. Send tools as well."
        if not self.forced:
            return "tool_choice.function.name", "none of the tools has this name."
        return None
