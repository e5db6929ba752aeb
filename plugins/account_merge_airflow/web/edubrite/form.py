"""Parameters of a call as old clients send them: in the address, or as a form in either encoding; bounded."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.formparsers import MultiPartException, MultiPartParser

from account_merge.errors import InvalidRequest

MOST_BYTES = 64 * 1024
MOST_FIELDS = 50


async def parameters(request: Request) -> dict[str, str]:
    """Return the parameters of the address and of a form in either encoding.

    :raises InvalidRequest: too long, unreadable, or one parameter has two values.
    """
    pairs = _pairs(request.scope.get("query_string", b"").decode("latin-1"))
    if request.method == "POST":
        pairs += await _form(request)
    found: dict[str, str] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise InvalidRequest("BAD_PARAMETERS", "a parameter has two values", "Send each once.")
    return found


async def _form(request: Request) -> list[tuple[str, str]]:
    kind, body = request.headers.get("content-type", ""), await _body(request)
    if not kind.startswith("multipart/form-data"):
        return _pairs(body.decode("utf-8", "replace"))

    async def stream() -> Any:
        yield body

    try:
        form = await MultiPartParser(request.headers, stream(), max_files=0, max_fields=MOST_FIELDS).parse()
    except (MultiPartException, KeyError) as error:
        raise InvalidRequest("BAD_PARAMETERS", "the form cannot be read", "Send a form.") from error
    return [(name, str(value)) for name, value in form.multi_items()]


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise InvalidRequest("BAD_PARAMETERS", f"the form has more than {MOST_BYTES} bytes", "Send less.")
    return body


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise InvalidRequest("BAD_PARAMETERS", "the parameters cannot be read", "Send fewer.") from error
