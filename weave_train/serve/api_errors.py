"""Errors in the form that OpenAI's clients know."""

from __future__ import annotations

from typing import Any

from weave_data.errors import WeaveError

__all__ = ["ApiError", "error_body"]


class ApiError(WeaveError):
    """A request that gets no answer.

    Args:
        message: What was wrong, the value, the rule, the next action.
        status: Of HTTP.
        param: Dotted path of what was wrong in the request.
        code: Machine-readable, where OpenAI has one.
    """

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        self.status = status
        self.param = param
        self.code = code
        super().__init__(message)


def error_body(error: ApiError) -> dict[str, Any]:
    """The JSON of an error."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}
