"""What goes wrong, for programs and for people.

EigenwerkError        the platform refused, or could not be reached
    TransferCorrupt   bytes arrived that are not the ones that were registered
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from jobspecs.problems import Problem

#: Characters of an answer that is not the platform's, shown to help find out who answered.
_FOREIGN_ANSWER_CHARS = 200
#: What OpenSSL says of certificates that nobody it knows vouches for, that have expired, or that are another host's.
_UNKNOWN_AUTHORITY = "CERTIFICATE_VERIFY_FAILED"
#: The code of the error for such a one.
UNTRUSTED = "certificate_not_believed"


class EigenwerkError(Exception):
    """`message` says what is wrong and what to do. `status` is the HTTP status, None when there was no answer.

    `problems` names fields, files and rows; `code` is for programs; `retry_after_s` is the server's own estimate.
    """

    def __init__(
        self,
        message: str,
        problems: Sequence[Problem] = (),
        status: int | None = None,
        *,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.problems = tuple(problems)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class TransferCorrupt(EigenwerkError):
    """What was received has another sha256 than the manifest says. Nothing of it was kept."""


def error_of(response: httpx.Response) -> EigenwerkError:
    """An answer that is no success, as an error. The body must have been read."""
    status = response.status_code
    try:
        error = response.json()["error"]
        problems = [Problem.model_validate(problem) for problem in error.get("problems") or ()]
        message, code = str(error["message"]), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        text = " ".join(response.text[:_FOREIGN_ANSWER_CHARS].split())
        message = f"{response.request.url} answered {status}, not as an Eigenwerk platform does: {text or 'nothing'}"
        return EigenwerkError(message, status=status)
    return EigenwerkError(message, problems, status, code=code, retry_after_s=_retry_after_s(response))


def no_answer(url: str, error: Exception) -> EigenwerkError:
    """Nobody answered, one whom nobody vouches for did, or the connection broke."""
    if _UNKNOWN_AUTHORITY in str(error):
        return EigenwerkError(
            f"{url} has a certificate that is not believed here ({error}). "
            "Name the file of its authority, or of the certificate if it made itself: SSL_CERT_FILE=cert.pem",
            code=UNTRUSTED,
        )
    if isinstance(error, httpx.ConnectError):
        return EigenwerkError(
            f"Nothing answers at {url}. Start the platform with `eigenwerk up`, or set EIGENWERK_URL."
        )
    if isinstance(error, httpx.TimeoutException):
        return EigenwerkError(f"{url} did not answer in time. Try again, or look whether the platform is overloaded.")
    return EigenwerkError(f"The connection to {url} broke ({error or type(error).__name__}). Try again.")


def _retry_after_s(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None
