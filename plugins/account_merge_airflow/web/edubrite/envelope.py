"""EduBrite's XML envelope: a code for the whole call, one message, and on request the details.

The answer is built as a document, never as text: it is well-formed, whatever a name holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.dom.minidom import Document, Element

from fastapi import Response

#: Message code -> HTTP status, the root's code, and the text: EduBrite's own where its documents show one.
MESSAGES: Mapping[str, tuple[int, str, str]] = {
    "0": (200, "0", "Success"),
    "0152": (200, "0", "Connected successfully."),
    "0224": (200, "0", "Merged successfully."),
    "0004": (404, "-1", "Unable to find User with matching id"),
    "0005": (401, "-1", "You are not allowed to perform this action."),
    "0026": (403, "-1", "Unable to process the request."),
    "0154": (401, "-1", "Unable to connect."),
    "0174": (401, "-1", "Session is not valid."),
}
MEDIA_TYPE = "text/xml"
#: Characters that XML 1.0 cannot hold; a reader would take a carriage return for a line feed.
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: An element: text, elements by name, or several elements of one name.
Part = str | Mapping[str, "Part"] | Sequence["Part"]


def respond(code: str, text: str = "", details: Mapping[str, Any] | None = None, status: int = 0) -> Response:
    """Return the response with this message code.

    :param text: instead of the code's own.
    :param details: elements behind `msgs`, by name.
    :param status: instead of the code's own.
    """
    usual, root, words = MESSAGES[code]
    body = envelope(root, code, text or words, details)
    return Response(body, status or usual, media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})


def envelope(root: str, code: str, value: str, details: Mapping[str, Any] | None = None) -> bytes:
    """Return the XML of an answer: UTF-8, without a declaration, as the documents show it."""
    document = Document()
    response = document.createElement("response")
    response.setAttribute("code", root)
    message = _child(_child(response, "msgs"), "msg")
    _child(message, "code").appendChild(document.createTextNode(code))
    _child(message, "value").appendChild(document.createCDATASection(clean(value).replace("]]>", "]] >")))
    if details is not None:
        _fill(_child(response, "details"), details)
    return str(response.toprettyxml(indent="    ")).encode()


def clean(text: str) -> str:
    """Return the text with U+FFFD for each character that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def _child(parent: Element, name: str) -> Element:
    made: Element = Document().createElement(name)
    parent.appendChild(made)
    return made


def _fill(element: Element, part: Any) -> None:
    if isinstance(part, Mapping):
        for name, inner in part.items():
            for one in inner if isinstance(inner, list | tuple) else (inner,):
                _fill(_child(element, name), one)
    elif part not in (None, ""):
        element.appendChild(Document().createTextNode(clean(str(part))))
