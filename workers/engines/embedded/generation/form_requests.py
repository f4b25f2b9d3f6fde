"""How requests say what form an answer shall have: OpenAI's `response_format`, vLLM's `guided_*`, TGI's `grammar`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from jobspecs.dialects import Request
from workers.engines.embedded.generation.forms import Form, FormRefused

#: Texts of which an answer shall be one.
_CHOICES_MAX = 1000
_OBJECT = {"type": "object"}

Schema = dict[str, Any] | bool
Choices = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=_CHOICES_MAX)]


class NamedSchema(Request):
    """A schema with what OpenAI and TGI say beside it."""

    name: str | None = None
    description: str | None = None
    schema_: Schema = Field(alias="schema")
    #: Every schema is kept to strictly.
    strict: bool | None = None


class Format(Request):
    """OpenAI's `response_format`, and TGI's `grammar` with its `value`."""

    type: Literal["text", "json_object", "json_schema", "json", "regex"]
    json_schema: NamedSchema | None = None
    value: Any = None

    def form(self, field: str) -> Form | None:
        """None for text. Raises FormRefused."""
        if self.type == "text":
            return None
        if self.type == "regex":
            if not isinstance(self.value, str) or not self.value:
                raise FormRefused(f"{field}.value", "a regular expression is a text.")
            return Form.of_regex(f"{field}.value", self.value)
        if self.type == "json_schema" and self.json_schema is not None:
            return Form.of_schema(f"{field}.json_schema.schema", self.json_schema.schema_)
        if self.value is not None:
            return Form.of_schema(f"{field}.value", _schema(f"{field}.value", self.value))
        if self.type == "json_object":
            return Form.of_schema(field, _OBJECT)
        raise FormRefused(field, f"{self.type} needs a schema. Send one as json_schema.schema, or as value.")


def _schema(field: str, value: Any) -> Schema:
    """The schema itself, of which TGI takes a text as well, and one with a name around it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise FormRefused(field, f"it is not JSON: {error}.") from error
    if isinstance(value, dict) and isinstance(value.get("schema"), dict) and set(value) <= {"name", "schema"}:
        value = value["schema"]
    if not isinstance(value, dict | bool):
        raise FormRefused(field, "a JSON schema is an object.")
    return value


class StructuredOutputs(Request):
    """vLLM's `structured_outputs`."""

    json_: Schema | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: Choices | None = None

    def forms(self, field: str) -> list[Form]:
        """Raises FormRefused."""
        found = []
        if self.json_ is not None:
            found.append(Form.of_schema(f"{field}.json", _schema(f"{field}.json", self.json_)))
        if self.regex:
            found.append(Form.of_regex(f"{field}.regex", self.regex))
        if self.choice is not None:
            found.append(Form.of_choice(f"{field}.choice", self.choice))
        return found


class Formed(Request):
    """The fields of OpenAI's requests, and vLLM's, that ask for a form."""

    response_format: Format | None = None
    guided_json: Schema | str | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    structured_outputs: StructuredOutputs | None = None

    def form(self) -> Form | None:
        """None: any text will do. Raises FormRefused, also where two forms are asked for at once."""
        found = self.structured_outputs.forms("structured_outputs") if self.structured_outputs is not None else []
        if self.response_format is not None and (form := self.response_format.form("response_format")) is not None:
            found.append(form)
        if self.guided_json is not None:
            found.append(Form.of_schema("guided_json", _schema("guided_json", self.guided_json)))
        if self.guided_regex:
            found.append(Form.of_regex("guided_regex", self.guided_regex))
        if self.guided_choice is not None:
            found.append(Form.of_choice("guided_choice", self.guided_choice))
        if len(found) > 1:
            raise FormRefused(found[1].field, f"{found[0].field} asks for another form already. Send one of them.")
        return found[0] if found else None
