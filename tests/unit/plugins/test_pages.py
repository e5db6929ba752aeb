"""Values and plots on a page, without any server."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

from account_merge.listings import MergesByDay
from account_merge_airflow.web import filters
from account_merge_airflow.web.pages import plots
from account_merge_airflow.web.templating import TEMPLATES

ROW = {
    "key": {"courseid": "c", "contentid": "l"}, "what": "changed", "before": {"viewcount": 5, "status": 1},
    "sources": {"old": {"viewcount": 2, "status": None}}, "after": {"viewcount": 7, "status": 1},
    "columns": ["viewcount"], "why": {"viewcount": "5 and 2 more"}, "notes": [], "choice": "combine",
}  # fmt: skip


def test_a_row_has_a_line_for_each_written_column_and_one_for_the_rest():
    (row,) = filters.diff([ROW], "user_content_consumption")
    line, rest = row["lines"]
    assert (line["column"], line["before"], line["sources"], line["after"]) == ("viewcount", 5, {"old": 2}, 7)
    assert (line["why"], line["rule"]) == ("5 and 2 more", "total")
    assert rest["words"] == "1 more columns stay as they were."


def test_the_rule_is_known_in_the_logs_of_an_undo_and_of_a_source():
    for log in ("undo-1/user_content_consumption", "user_content_consumption/an-account"):
        assert filters.diff([ROW], log)[0]["lines"][0]["rule"] == "total"
    assert filters.diff([ROW], "unknown")[0]["lines"][0]["rule"] == ""


def test_a_deleted_row_shows_what_is_gone():
    gone = ROW | {"what": "deleted", "after": None, "columns": []}
    assert [line["column"] for line in filters.diff([gone], "x")[0]["lines"]] == ["status", "viewcount"]


def test_long_values_are_cut_and_times_are_read_as_airflow_writes_them():
    assert len(filters.text("x" * 10_000)) == filters.LONGEST + 1
    assert filters.text({"a": 1.0, "b": None}) == '{"a": 1.0, "b": null}'
    assert filters.when("2022-03-01T10:15:30.123Z") == "2022-03-01 10:15:30"
    assert [filters.took(t) for t in (0.012, 1.25, 75, 7300)] == ["12 ms", "1.2 s", "1 min 15 s", "2 h 1 min"]


def test_a_row_that_stays_by_choice_shows_what_is_left_out():
    row = ROW | {"what": "same", "after": ROW["before"], "columns": [], "why": {}, "choice": "target"}
    line, rest = filters.diff([row], "user_content_consumption")[0]["lines"]
    assert (line["column"], line["before"], line["sources"], line["after"]) == ("viewcount", 5, {"old": 2}, 5)
    assert line["why"] == "As the target has it, by choice."
    assert rest["words"] == "1 more columns stay as they were."


def test_hostile_values_are_escaped_in_rows():
    evil = "<script>alert(1)</script>"
    row = ROW | {
        "key": {"courseid": evil},
        "after": {"viewcount": {evil: evil}},
        "notes": [evil],
        "why": {"viewcount": evil},
    }
    html = TEMPLATES.get_template("parts/rows.html").render(rows=filters.diff([row], "user_content_consumption"))
    assert evil not in html
    assert html.count("&lt;script&gt;") == 5


def test_bars_are_stacked_to_the_highest_day():
    day = date(2026, 3, 1)
    found = MergesByDay(
        {day: Counter(completed=3, failed=1), day + timedelta(days=1): Counter(undone=2)}, Counter(RUN_FAILED=1)
    )
    drawn = plots.days(found)
    first, second = drawn["bars"]
    assert (first["total"], second["total"], drawn["most"]) == (4, 2, 4)
    assert sum(piece["height"] for piece in first["pieces"]) == drawn["floor"] - drawn["top"]
    assert second["parts"] == {"undone": 2}
    assert plots.reasons(found) == [("RUN_FAILED", 1)]


def test_no_merge_at_all_is_no_division_by_zero():
    assert plots.days(MergesByDay({date(2026, 3, 1): Counter()}))["most"] == 0
