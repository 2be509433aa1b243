"""What the forge answers when it does not do what was asked: a status and GitHub's JSON shape."""

from __future__ import annotations

from typing import Any

DOCS = "https://docs.github.com/rest"


class ApiError(Exception):
    """Ends a request with ``status``; everything the request wrote is rolled back."""

    def __init__(self, status: int, message: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors

    def body(self) -> dict[str, Any]:
        """The JSON that GitHub would send."""
        data: dict[str, Any] = {"message": self.message}
        if self.errors is not None:
            data["errors"] = self.errors
        data["documentation_url"] = DOCS
        data["status"] = str(self.status)
        return data


def bad_token() -> ApiError:
    return ApiError(401, "Bad credentials")


def no_token() -> ApiError:
    return ApiError(401, "Requires authentication")


def not_found() -> ApiError:
    """Also the answer for what exists but may not be seen, so that nobody can tell the two apart."""
    return ApiError(404, "Not Found")


def forbidden() -> ApiError:
    return ApiError(403, "Resource not accessible by personal access token")


def invalid(resource: str, field: str, code: str = "invalid") -> ApiError:
    """422 for one field; ``code`` is GitHub's (missing, missing_field, invalid, already_exists)."""
    return ApiError(422, "Validation Failed", [{"resource": resource, "field": field, "code": code}])


def custom(resource: str, message: str) -> ApiError:
    """422 with a sentence of its own."""
    return ApiError(422, "Validation Failed", [{"resource": resource, "code": "custom", "message": message}])
