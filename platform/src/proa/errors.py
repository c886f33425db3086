"""The closed family of errors, sorted by what the caller can do about them.

    ProaError
    ├── InvalidInput      400  exit 2   mend what was sent; the message names key, value, expected
    ├── Unauthenticated   401  exit 3   send a valid key
    ├── Forbidden         403  exit 3   use a key that has the right named in the message
    ├── NotFound          404  exit 4   name something that exists
    ├── Conflict          409  exit 5   read the present state, then decide again
    ├── Refused           422  exit 6   a rule of proa said no; the hint is the mending command
    ├── LimitReached      429  exit 7   wait or ask for a higher limit
    ├── Unavailable       503  exit 8   a part is down or not ready; try again
    └── Internal          500  exit 70  a fault of proa itself; report it

Every class knows its HTTP status, its exit code and its wire `type`. Libraries' exceptions are
translated once, at the edge that called the library, and chained with `from`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "Conflict",
    "Forbidden",
    "Internal",
    "InvalidInput",
    "LimitReached",
    "NotFound",
    "ProaError",
    "Refused",
    "Unauthenticated",
    "Unavailable",
    "error_from_wire",
]


class ProaError(Exception):
    """Base of every error proa raises on purpose.

    Args:
        message: one sentence naming what was wrong, where, and what was expected.
        hint: the command or change that mends it, when there is one.
        code: stable machine word (`unknown_model`, `no_release`, …); defaults to the class's type.
        param: the key or field at fault, for bodies and files.
    """

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 70
    type: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.type
        self.param = param

    def to_wire(self, request: str | None = None) -> dict[str, Any]:
        """The JSON body of this error: OpenAI's error object plus `hint` and `request`."""
        body: dict[str, Any] = {"message": self.message, "type": self.type, "code": self.code}
        if self.param is not None:
            body["param"] = self.param
        if self.hint is not None:
            body["hint"] = self.hint
        if request is not None:
            body["request"] = request
        return {"error": body}


class InvalidInput(ProaError):
    """What was sent cannot be understood or is out of range."""

    status, exit_code, type = 400, 2, "invalid_input"


class Unauthenticated(ProaError):
    """No key, an unknown key or an expired key."""

    status, exit_code, type = 401, 3, "unauthenticated"


class Forbidden(ProaError):
    """The key is valid but lacks a right."""

    status, exit_code, type = 403, 3, "forbidden"


class NotFound(ProaError):
    """The named thing does not exist."""

    status, exit_code, type = 404, 4, "not_found"


class Conflict(ProaError):
    """The state changed or is taken; nothing was done."""

    status, exit_code, type = 409, 5, "conflict"


class Refused(ProaError):
    """A rule said no: no passing verdict, a frozen model, a revoked digest."""

    status, exit_code, type = 422, 6, "refused"


class LimitReached(ProaError):
    """A budget or a limit is used up."""

    status, exit_code, type = 429, 7, "limit_reached"


class Unavailable(ProaError):
    """A part is down, not ready, or did not answer in time."""

    status, exit_code, type = 503, 8, "unavailable"


class Internal(ProaError):
    """A fault of proa itself."""

    status, exit_code, type = 500, 70, "internal"


_FAMILY: tuple[type[ProaError], ...] = (
    InvalidInput,
    Unauthenticated,
    Forbidden,
    NotFound,
    Conflict,
    Refused,
    LimitReached,
    Unavailable,
    Internal,
)


def error_from_wire(status: int, body: object) -> ProaError:
    """Rebuild the error that a proa process sent, so that a client raises what the server raised.

    Args:
        status: the HTTP status of the answer.
        body: the decoded JSON body, or whatever came instead of it.
    """
    error = body.get("error") if isinstance(body, Mapping) else None
    details: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    message = str(details.get("message") or f"HTTP {status}: {str(body)[:256]}")
    wire_type = details.get("type")
    for cls in _FAMILY:
        if cls.type == wire_type or (wire_type is None and cls.status == status):
            return cls(
                message,
                hint=details.get("hint"),
                code=details.get("code"),
                param=details.get("param"),
            )
    return (Internal if status >= 500 else InvalidInput)(message)
