"""A client of EduBrite's API and a strict parser of its answers, written from its documents alone.

Nothing of the product is imported: what is accepted here is what a caller accepts who was written years ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

import httpx

SITE = "/oltpublish/site"


@dataclass(frozen=True)
class Answer:
    """HTTP status, the root's code, and the one message."""

    status: int
    root: str
    code: str
    value: str
    raw: bytes


def strict(response: httpx.Response) -> Answer:
    """The documented shape and nothing beside it: response@code, msgs, msg, code, value."""
    assert response.status_code in (200, 401, 403, 404), response.status_code
    assert response.headers["content-type"].split(";")[0] == "text/xml"
    root = ElementTree.fromstring(response.content)
    assert (root.tag, set(root.attrib), [child.tag for child in root]) == ("response", {"code"}, ["msgs"])
    (messages,) = root
    (message,) = messages
    assert (messages.tag, message.tag, messages.attrib, message.attrib) == ("msgs", "msg", {}, {})
    code, value = message
    assert (code.tag, value.tag, len(code), len(value)) == ("code", "value", 0, 0)
    assert b"<value><![CDATA[" in response.content
    assert root.get("code") == ("0" if response.status_code == 200 else "-1")
    return Answer(response.status_code, root.get("code") or "", code.text or "", value.text or "", response.content)


class OldClient:
    """Connects with two cookies, then calls."""

    def __init__(self, url: str, base: str = "") -> None:
        self.http = httpx.Client(base_url=url, timeout=120)
        self.base = base + SITE
        self.cookies: dict[str, str] = {}

    def close(self) -> None:
        self.http.close()

    def connect(self, username: str, password: str, method: str = "GET") -> Answer:
        self.cookies = {}
        first = strict(self._keep(self.http.request(method, f"{self.base}/connect.do")))
        assert first.status == 200
        assert set(self.cookies) == {"SESSION_ID"}
        given = {"username": username, "password": password}
        where = {"params": given} if method == "GET" else {"data": given}
        return strict(
            self._keep(self.http.request(method, f"{self.base}/connect.do", headers=self._headers(), **where))
        )

    def call(self, acting: str, *, method: str = "POST", multipart: bool = False, **parameters: str) -> httpx.Response:
        """`userService.do`; the acting user goes in the header that the client library sends."""
        headers = self._headers() | ({"REAL_UNAME": acting} if acting else {})
        url = f"{self.base}/userService.do"
        if method == "GET":
            return self.http.get(url, params=parameters, headers=headers)
        if multipart:
            return self.http.post(url, files={k: (None, v) for k, v in parameters.items()}, headers=headers)
        return self.http.post(url, data=parameters, headers=headers)

    def merge(self, acting: str, main: str, others: str, **more: str) -> httpx.Response:
        return self.call(acting, dispatch="mergeAccounts", mainUserName=main, otherUserNames=others, **more)

    def _headers(self) -> dict[str, str | bytes]:
        sent = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": sent.encode("latin-1")} if sent else {}

    def _keep(self, response: httpx.Response) -> httpx.Response:
        self.cookies |= dict(response.cookies)
        self.http.cookies.clear()  # the caller's own jar decides what is sent
        return response
