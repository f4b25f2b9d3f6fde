"""Requests to a language model that can't be served, as refusals in TGI's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workers.engines.embedded.batching import Overloaded
from workers.engines.embedded.dialects.requests import Refused
from workers.engines.embedded.generation.forms import FormRefused
from workers.engines.embedded.generation.generator import PromptEmpty, PromptTooLong
from workers.engines.embedded.generation.language_model import ChatTemplateFailed, NoChatTemplate
from workers.engines.embedded.generation.requests import UnknownAdapter, Unsupported

#: The kind of error when a prompt is longer than the model's context, on OpenAI's routes.
CONTEXT_LENGTH = "context_length_exceeded"
#: And when the request names an adapter that is not there.
NOT_FOUND = "not_found"


@contextmanager
def refusing(prompt: str, *, too_long: str = "validation", prefix: str = "") -> Iterator[None]:
    """Turns what the request itself is to blame for into Refused.

    `prompt`: the field that holds it. `prefix` goes before what is said of fields.
    """
    try:
        yield
    except Refused as error:
        kind = error.error_type.lower()
        message = f"{prefix if kind == 'validation' else ''}{error.message}"
        raise Refused(error.status, kind, message, error.field) from error
    except PromptTooLong as error:
        raise Refused(422, too_long, f"{prefix}{error}", prompt) from error
    except UnknownAdapter as error:
        raise Refused(404, NOT_FOUND, str(error), error.field) from error
    except (Unsupported, FormRefused) as error:
        raise Refused(422, "validation", f"{prefix}{error}", error.field) from error
    except (PromptEmpty, NoChatTemplate) as error:
        raise Refused(422, "validation", f"{prefix}{error}", prompt) from error
    except ChatTemplateFailed as error:
        raise Refused(422, "template_error", str(error), prompt) from error
    except Overloaded as error:
        raise Refused(429, "overloaded", str(error)) from error
