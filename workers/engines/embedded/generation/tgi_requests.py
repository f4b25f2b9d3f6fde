"""What clients ask of a language model in the shapes of text-generation-inference (TGI) 3.3."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from jobspecs.dialects import TGI, TGI_PARAMETERS, Request
from workers.engines.embedded.generation.form_requests import Format
from workers.engines.embedded.generation.forms import Form
from workers.engines.embedded.generation.requests import (
    CHOICES_MAX,
    STOPS_MAX,
    TOP_LOGPROBS_MAX,
    Stop,
    Unsupported,
    first_of,
)
from workers.engines.embedded.generation.sampling import Sampling


class Parameters(Request):
    """TGI's `parameters`."""

    dialect = TGI_PARAMETERS

    temperature: float | None = Field(default=None, gt=0, le=100)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    top_k: int | None = Field(default=None, gt=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    do_sample: bool = False
    max_new_tokens: int | None = Field(default=None, ge=1)
    return_full_text: bool | None = None
    stop: Annotated[list[Stop], Field(max_length=STOPS_MAX)] = Field(default_factory=list)
    truncate: int | None = Field(default=None, ge=1)
    details: bool = False
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    best_of: int | None = Field(default=None, ge=1, le=CHOICES_MAX)
    #: The prompt's tokens are told as well, with their log probabilities.
    decoder_input_details: bool = False
    adapter_id: str | None = None
    grammar: Format | None = None
    top_n_tokens: int | None = Field(default=None, ge=0, le=TOP_LOGPROBS_MAX)

    @property
    def draws(self) -> bool:
        """Asking for a temperature or a cut means drawing, as in TGI."""
        return self.do_sample or any(value not in (None, 1.0) for value in (self.temperature, self.top_p, self.top_k))

    def form(self) -> Form | None:
        """None: any text will do. Raises FormRefused."""
        return self.grammar.form("parameters.grammar") if self.grammar is not None else None

    def check(self, stream: bool) -> None:
        """Raises Unsupported, in TGI's words where it has some."""
        if stream and self.decoder_input_details:
            raise Unsupported("parameters.decoder_input_details", "`true` is not supported when streaming tokens.")
        if (self.best_of or 1) == 1:
            return
        if stream:
            raise Unsupported("parameters.best_of", "more than 1 is not supported when streaming tokens.")
        if not self.draws:
            raise Unsupported("parameters.best_of", "you must use sampling when it is more than 1.")
        if self.seed is not None:
            raise Unsupported("parameters.best_of", "`seed` must not be set when it is more than 1.")

    def sampling(self, room: int) -> Sampling:
        """`room`: tokens that fit."""
        return Sampling(
            max_tokens=min(self.max_new_tokens or room, room),
            temperature=first_of(self.temperature, None, 1.0) if self.draws else 0.0,
            top_p=first_of(self.top_p, None, 1.0),
            top_k=self.top_k or 0,
            seed=self.seed,
            stop=tuple(self.stop),
            repetition_penalty=first_of(self.repetition_penalty, None, 1.0),
            frequency_penalty=first_of(self.frequency_penalty, None, 0.0),
            top_logprobs=self.top_n_tokens or 0,
            echo=self.decoder_input_details,
            scores_echo=self.decoder_input_details,
        )


class GenerateRequest(Request):
    """POST /generate, /generate_stream and /, where `stream` chooses between the two."""

    dialect = TGI

    inputs: str
    # Without any parameters TGI draws; with some it does not, unless they say so.
    parameters: Parameters = Field(default_factory=lambda: Parameters(do_sample=True))
    stream: bool = False


class TokenizeRequest(Request):
    """POST /tokenize."""

    dialect = TGI

    inputs: str
