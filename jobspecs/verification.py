"""Whether a version does in its engine what its source does: a state, and apart from it the cause when it does not."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator


class VerificationState(StrEnum):
    """What the comparison found. A version that was never compared has none."""

    verified = "verified"
    #: No alias moves onto it unless somebody forces it.
    unverified = "unverified"


class Cause(StrEnum):
    """What of a version is not its source's."""

    #: The engine can't load it.
    load = "load"
    #: Rows of the embedding for some token are missing.
    vocabulary = "vocabulary"
    #: A conversation becomes other tokens, or none.
    template = "template"
    #: A text becomes other tokens.
    tokenizer = "tokenizer"
    #: Answers don't end where the source's do.
    end_token = "end_token"  # noqa: S105
    #: Positions are rotated otherwise: right for the first token, wrong from the second on.
    rope = "rope"
    #: Hidden states are right and logits wrong.
    head = "head"
    #: Weights, or an adapter's change of them, are there several times over.
    scale = "scale"
    #: Other weights than the source's, in no way that has a name.
    weights = "weights"


class Verification(BaseModel):
    """`engine`: the one that it was loaded in. `message` is for people, and empty where nothing was found."""

    model_config = ConfigDict(frozen=True)

    state: VerificationState
    cause: Cause | None = None
    engine: str = Field(max_length=100)
    message: str = Field(default="", max_length=1000)

    @model_validator(mode="after")
    def _a_breach_has_a_cause(self) -> Verification:
        if (self.state is VerificationState.unverified) != (self.cause is not None):
            raise ValueError("what is unverified has a cause, and nothing else has one")
        return self
