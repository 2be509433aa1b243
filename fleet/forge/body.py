"""Request bodies that are held whole, up to a limit."""

from __future__ import annotations

from starlette.requests import Request

from fleet.forge.errors import ApiError


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises ApiError 413 past ``limit`` bytes."""
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise ApiError(413, "Payload too large")
        parts.append(chunk)
    return b"".join(parts)
