"""Reports, lists and checks on a terminal, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from account_merge.intake.replay import ReplayAnswer
from account_merge.intake.rescue import RescuedLine
from account_merge.model import Merge
from account_merge.planning.seeding import WORDS
from account_merge.reports.balance import Balance
from account_merge.reports.preflight import Notice
from account_merge.reports.report import Report, ReportRow
from account_merge.reports.status import Status
from account_merge.sunbird.coverage import Coverage

_MOST_ROWS = 40  # of one table on a terminal; JSON has them all


_PIPE = 2000  # columns of output that is piped: it is not cut to a terminal's 80


def _console(out: IO[str]) -> Console:
    return Console(file=out, highlight=False, width=None if out.isatty() else _PIPE)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def print_report(report: Report, as_json: bool, out: IO[str]) -> None:
    """Print a merge: its head, then for each merged table the target before, the source, the target after and why."""
    if as_json:
        print(json.dumps(report.to_dict(), ensure_ascii=False, allow_nan=False), file=out)
        return
    console = _console(out)
    head = report.head()
    console.print(f"[bold]merge {head['merge_id']}[/]: {head['state']}")
    console.print(
        f"  {', '.join(map(escape, head['source_accounts']))} → {escape(head['survivor'] or head['target_account'])}"
    )
    for words in (
        head["seeded"] and WORDS,
        head["note"],
        head["error"] and f"{head['error']['code']}: {head['error']['message']} {head['error']['remedy']}",
    ):
        if words:
            console.print(f"  {escape(words)}")
    if head["state_before_erasure"]:
        console.print(f"  erased; it was {head['state_before_erasure']}. Names are hashes, texts and rows are gone.")
    elif head["expiry"]:
        console.print("  its images have expired: it cannot be undone or redone any more")
    idle: dict[str, list[str]] = {}
    for part in report.tables:
        if part.operation and part.stage == "done" and not part.counts:
            idle.setdefault(part.operation, []).append(part.table.partition("/")[2])
            continue
        words = ", ".join(f"{number} {what}" for what, number in part.counts.items()) if head["expiry"] else ""
        _print_table(console, part.table, "; ".join(filter(None, (words, part.note))), part.rows)
    for operation, tables in idle.items():
        console.print(f"[bold]{operation}[/]: nothing in {escape(', '.join(tables))}")
    if unknown := report.coverage.get("unknown"):
        console.print(f"[yellow]no rule knows {', '.join(unknown)}[/]: what an account has there stays. See: coverage")


def print_preview(report: Report, balance: Balance, notices: Sequence[Notice], as_json: bool, out: IO[str]) -> None:
    """Print what a merge would do, what is known of its accounts, and what stays behind."""
    if as_json:
        found = {"warnings": [notice.to_dict() for notice in notices], "balance": balance.to_dict()}
        print(json.dumps(report.to_dict() | found, ensure_ascii=False), file=out)
        return
    print_report(report, False, out)
    console = _console(out)
    for notice in notices:
        mark = "red" if notice.serious else "yellow"
        console.print(f"[{mark}]{escape(notice.words)}[/] {escape(notice.remedy)}".rstrip(), soft_wrap=True)
    for line in balance.lost:
        why = "; ".join(line.why)
        console.print(
            f"[red]{line.short:g} less[/] {line.measure.words} than the accounts have together: {escape(why)}"
        )
    for one in balance.behind:
        console.print(f"[yellow]stays behind[/] {one.rows} rows of {one.table}: {escape(one.why)}")
    for table, note in balance.not_looked_for.items():
        console.print(f"[yellow]{table}[/] {escape(note)}", soft_wrap=True)
    if balance.nothing_lost:
        console.print("[green]nothing is lost[/]")


def _print_table(console: Console, name: str, note: str, rows: Iterable[ReportRow]) -> None:
    table = Table(title=name, title_justify="left", show_lines=False, expand=False)
    for column in ("row", "column", "target before", "source", "after", "why"):
        table.add_column(column, overflow="fold")
    shown = same = hidden = 0
    for row in rows:
        if row["what"] == "same":
            same += 1
            continue
        shown += 1
        if shown > _MOST_ROWS:
            hidden += 1
            continue
        label = " ".join(map(str, row["key"].values()))
        label += "" if row["what"] in ("created", "changed") else f" ({row['what']})"
        for column in row["columns"] or ["(row)"]:
            sources = [v.get(column) for v in row["sources"].values() if v.get(column) is not None]
            source = sources[0] if len(sources) == 1 else sources or None
            before = (row["before"] or {}).get(column)
            table.add_row(
                escape(label),
                column,
                _text(before),
                _text(source),
                _text((row["after"] or {}).get(column)),
                row["why"].get("" if column == "(row)" else column, ""),
            )
            label = ""
        for words in row["notes"]:
            table.add_row("", "[yellow]either way[/]", "", "", "", escape(words))
    if shown:
        console.print(table)
    rest = [
        f"{same} rows needed nothing" if same else "",
        f"{hidden} more rows: --json shows all" if hidden else "",
        note,
    ]
    words = "; ".join(w for w in rest if w)
    if not shown:
        console.print(f"[bold]{name}[/]: {words or 'nothing to merge'}")
    elif words:
        console.print(f"  {words}")


def print_coverage(coverage: Coverage, as_json: bool, out: IO[str]) -> None:
    """Print every table with a column like a user id, unknown ones first."""
    states = ("unknown", "covered", "ignored")
    if as_json:
        rows = [{**vars(t), "columns": list(t.columns)} for t in coverage.tables]
        print(json.dumps({**coverage.summary(), "tables": rows}), file=out)
        return
    table = Table()
    for column in ("table", "columns like a user id", "state", "why"):
        table.add_column(column, overflow="fold", no_wrap=column == "table")
    for part in sorted(coverage.tables, key=lambda t: (states.index(t.state), t.name)):
        mark = "[red]unknown[/]" if part.state == "unknown" else part.state
        why = f"by the rule of {part.why}" if part.state == "covered" else part.why
        table.add_row(part.name, ", ".join(part.columns), mark, escape(why))
    _console(out).print(table)


def print_list(merges: Sequence[Merge], as_json: bool, out: IO[str]) -> None:
    """Print merges, one a line."""
    if as_json:
        for merge in merges:
            print(json.dumps(Report(merge, ()).head()), file=out)
        return
    table = Table(Column("merge id", no_wrap=True, min_width=36), "state", "accounts", "since", "note")
    for m in merges:  # an id is copied from here: it is never cut short
        accounts = "\n".join((*m.request.sources, f"→ {m.request.target}")) if m.request.target else ""
        since = f"{m.created_at:%Y-%m-%d %H:%M:%S}" if m.created_at else ""
        words = "; ".join(filter(None, (WORDS if m.request.seeded else "", m.error or m.note)))
        table.add_row(str(m.merge_id), m.state, escape(accounts), since, escape(words))
    _console(out).print(table)


def print_check(checks: Sequence[Any], as_json: bool, out: IO[str]) -> None:
    """Print the checks, with the remedy where one failed."""
    if as_json:
        found = [{"name": c.name, "ok": c.ok, "detail": c.detail, "remedy": c.remedy} for c in checks]
        print(json.dumps(found), file=out)
        return
    console = _console(out)
    for check in checks:
        mark = "[green]ok[/]  " if check.ok else "[red]FAIL[/]"
        console.print(
            f"{mark} {check.name}: {escape(check.detail)}" + (f"\n     {escape(check.remedy)}" if not check.ok else "")
        )


def print_status(status: Status, as_json: bool, out: IO[str]) -> None:
    """Print the switches, the counts by state, and which merges wait for which."""
    if as_json:
        print(json.dumps(status), file=out)
        return
    console = _console(out)
    for switch in status["switches"]:
        console.print(f"[bold red]stopped[/] {escape(switch['note'])}")
    if status["draining"]:
        console.print(f"[bold red]nothing new starts[/] {escape(status['draining'])}")
    if not status["switches"]:
        console.print("no merging is stopped")
    for title, counts in (("merges", status["states"]), ("failed events", status["failed_events"])):
        words = ", ".join(f"{number} {state}" for state, number in counts.items())
        if words or title == "merges":
            console.print(f"{title}: {words or 'none'}")
    if status["resuming"]:
        console.print(f"{status['resuming']} of them go on at the next poll that nothing stops")
    if status["overdue_settles"]:
        console.print(
            f"{status['overdue_settles']} settles are overdue: account_merge_settle falls behind or is paused"
        )
    for one in status["waiting"]:
        holder = f"merge {one['holder']} holds it ({one['holder_state']})" if one["holder"] else "it is free"
        console.print(f"  {one['merge_id']} waits for account {escape(one['account'] or '')}: {holder}")
    if status["waiting_more"]:
        console.print(f"  … and {status['waiting_more']} more: list --state waiting")


def print_failed(merges: Sequence[Merge], as_json: bool, out: IO[str]) -> None:
    """Print the merges that a person has to look at, with the remedy."""
    if as_json:
        print_list(merges, True, out)
        return
    console = _console(out)
    for m in merges:
        since = str(m.state_at).split(".")[0]
        console.print(f"[bold]{m.merge_id}[/] {m.state} {m.error_code or ''} since {since}", soft_wrap=True)
        sources, target = ", ".join(m.request.sources), m.target
        for words in (f"{sources} → {target}" if target else "", m.error, m.remedy, m.note):
            if words:
                console.print(f"  {escape(words)}", soft_wrap=True)
        if m.failed_event != "sent":
            console.print(f"  its failed event is {m.failed_event}")
    if not merges:
        console.print("nothing has failed")


def print_replay(answer: ReplayAnswer, as_json: bool, out: IO[str]) -> None:
    """Print the result for each merge."""
    if as_json:
        print(json.dumps(answer), file=out)
        return
    console = _console(out)
    for item in answer["items"]:
        moved = item["before"] or "unknown"
        moved += "" if item["after"] == item["before"] else f" → {item['after']}"
        words = f"[bold]{item['merge_id']}[/] {moved} {item['code']}: {escape(item['note'])}"
        console.print(words, soft_wrap=True)
    verb = "would be replayed" if answer["dry_run"] else "replayed"
    console.print(f"{answer['replayed']} {verb}, {answer['left_alone']} left alone")


def print_rescued(item: RescuedLine, as_json: bool, out: IO[str]) -> None:
    """Print the answer of one line of a rescue."""
    if as_json:
        print(json.dumps(item), file=out)
        return
    words = f"[bold]line {item['line']}[/] {item['code']} {item['merge_id'] or ''} {escape(item['note'])}"
    _console(out).print(words, soft_wrap=True)
    for table, counts in item["counts"].items():
        numbers = ", ".join(f"{number} {kind}" for kind, number in counts.items())
        _console(out).print(f"  {table}: {numbers}", soft_wrap=True)
    if item["remedy"]:
        _console(out).print(f"  {escape(item['remedy'])}", soft_wrap=True)


def print_differences(found: Sequence[Any], as_json: bool, out: IO[str]) -> None:
    """Print the differences of a merge from its log; a later write is not a fault."""
    if as_json:
        print(json.dumps([{"kind": d.kind, "table": d.table, "key": d.key, "words": d.words} for d in found]), file=out)
        return
    console = _console(out)
    for d in found:
        where = " ".join(map(str, (d.key or {}).values()))
        mark = f"[red]{d.kind}[/] " if d.fault else f"[yellow]{d.kind}[/]"
        console.print(f"{mark} {escape(d.table)} {escape(where)}: {escape(d.words)}")
    faults = sum(d.fault for d in found)
    console.print(f"{faults} differences" if faults else "log and tables are as the merge left them")
