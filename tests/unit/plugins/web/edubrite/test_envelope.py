"""The envelope is well-formed whatever it holds, and its bytes are the documents' shape."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from account_merge_airflow.web.edubrite.envelope import MESSAGES, clean, envelope, respond


@given(st.text(), st.text())
def test_any_text_makes_well_formed_xml_that_says_it(value, name):
    root = ElementTree.fromstring(envelope("0", "0026", value, {"other": [{"userName": name}, {"userName": name}]}))
    assert root.findtext("msgs/msg/value") == clean(value).replace("]]>", "]] >")
    names = [element.text or "" for element in root.findall("details/other/userName")]
    assert names == [clean(name)] * 2


@pytest.mark.parametrize("bad", ["\x00", "\x08", "\x0b", "\x1f", "\r", "\ud800", "\ufffe", "\uffff"])
def test_what_xml_cannot_hold_is_replaced(bad):
    assert clean(f"a{bad}b") == "a\ufffdb"


def test_text_that_xml_can_hold_stays():
    text = "a\tb\nc é 漢 \U0001f600 \u2028 \x85"
    assert clean(text) == text


@pytest.mark.parametrize("code", MESSAGES)
def test_success_and_only_success_has_root_0_and_http_200(code):
    status, root, _ = MESSAGES[code]
    assert (status == 200) == (root == "0")
    assert status in (200, 401, 403, 404)
    response = respond(code)
    assert (response.status_code, response.media_type) == (status, "text/xml")
    assert response.body.startswith(f'<response code="{root}">\n    <msgs>\n        <msg>\n'.encode())
