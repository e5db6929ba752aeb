"""The stories of the families: what is asked in which order, and who holds whose history at the end."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Mapping

from tests.torture.model import Account
from tests.torture.traffic import ACTION, Family, Traffic

Holds = dict[str, tuple[set[str], set[str]]]
PATIENCE = 3600.0  # s that a story waits for its merge: longer than anything that still moves
State = Callable[[uuid.UUID], str]
STORIES = {
    "pair": 5, "repeated": 3, "again": 2, "chain": 4, "fan-in": 2, "several": 2, "by command": 2, "by run": 2,
    "hot": 2, "conflict": 1, "circle": 1, "undo": 2, "undo one of two": 1, "undo and redo": 1, "bad": 5, "ignored": 1,
}  # fmt: skip
SIZE = {"pair": 2, "repeated": 2, "again": 2, "by command": 2, "by run": 2, "hot": 2, "circle": 2, "undo": 2,
        "undo and redo": 2, "bad": 0, "ignored": 0}  # fmt: skip


def family(seed: int, number: int, story: str) -> Family:
    """A family of this story; the same seed and number make the same one."""
    dice = random.Random(f"{seed}-family-{number}")
    accounts = [Account(str(uuid.UUID(int=dice.getrandbits(128), version=4))) for _ in range(SIZE.get(story, 3))]
    return Family(number, story, dice, accounts, f"do_{seed}_{number}")


def choose(dice: random.Random, count: int) -> list[str]:
    """Stories for a run: each kind before any comes twice, then by weight."""
    first = sorted(STORIES, key=lambda _: dice.random())
    more = dice.choices(list(STORIES), list(STORIES.values()), k=count)
    return ([*first, *more])[:count]


def play(traffic: Traffic, one: Family) -> None:
    """The story from its beginning to the last thing that is asked; learners write meanwhile."""
    if not one.accounts:
        (_bad if one.story == "bad" else _ignored)(traffic, one)
        return
    for account in one.accounts:
        traffic.enrol(one, account)
    _ask(traffic, one)
    for number in range(one.dice.randrange(2, 6)):
        time.sleep(one.dice.uniform(0.2, 5))
        account = one.dice.choice(one.accounts)
        if one.story == "hot" and account is one.accounts[-1]:
            traffic.view_again(one, account)
        else:
            traffic.learn(one, account, number)
    if one.story.startswith("undo"):
        _undo(traffic, one)


def _ask(traffic: Traffic, one: Family) -> None:
    accounts, dice, story = one.accounts, one.dice, one.story
    first, last = accounts[0], accounts[-1]
    if story == "chain":
        links = [(accounts[0], accounts[1]), (accounts[1], accounts[2])]
        for source, target in links if dice.random() < 0.5 else links[::-1]:
            traffic.ask(one, source, target, "chained", copies=dice.choice((1, 1, 2)))
    elif story in ("fan-in", "undo one of two"):
        for source in accounts[:2]:
            traffic.ask(one, source, last)
    elif story == "several":
        (traffic.ask_by_run if dice.random() < 0.5 else traffic.ask_by_command)(one, accounts[:-1], last)
    elif story == "by command":
        traffic.ask_by_command(one, [first], last)
    elif story == "by run":
        traffic.ask_by_run(one, [first], last)
    elif story == "conflict":
        traffic.ask(one, first, accounts[1])
        traffic.ask(one, first, last)
    elif story == "circle":
        traffic.ask(one, first, last)
        traffic.ask(one, last, first)
    else:
        traffic.ask(one, first, last, copies=dice.choice((2, 3)) if story == "repeated" else 1)
        if story == "again":
            traffic.ask(one, first, last, "same pair again")


def _undo(traffic: Traffic, one: Family) -> None:
    wish = one.wishes[0]
    if not traffic.until(lambda: all(traffic.state(w) == "completed" for w in one.wishes), PATIENCE):
        one.trouble += "its merge was not completed in time to be undone; "
        return
    one.undone.append(wish)
    if not traffic.undo(one, wish):
        one.trouble += "STUCK: its undo did not end; "
    elif one.story == "undo and redo":
        time.sleep(one.dice.uniform(0, 3))
        one.undone.clear()
        if not traffic.undo(one, wish, "redo"):
            one.trouble += "STUCK: its redo did not end; "
    else:
        for number in range(10, 12):
            traffic.learn(one, one.dice.choice(one.accounts), number)


def _bad(traffic: Traffic, one: Family) -> None:
    marker = f"bad-{one.course}-{one.dice.getrandbits(32):08x}"
    pair = {"action": ACTION, "fromAccountId": f"a-{marker}", "toAccountId": f"b-{marker}"}
    kinds = {
        "broken JSON": f'{{"mid": "{marker}", "edata": {{"action"'.encode(),
        "no edata": json.dumps({"mid": marker}).encode(),
        "into itself": json.dumps({"mid": marker, "edata": pair | {"toAccountId": f"a-{marker}"}}).encode(),
        "blank id": json.dumps({"mid": marker, "edata": pair | {"fromAccountId": "  "}}).encode(),
        "oversized": json.dumps({"mid": marker, "padding": "x" * 262_144, "edata": pair}).encode(),
        "binary": f"{marker}\0\0".encode(),
    }
    kind = one.dice.choice(sorted(kinds))
    traffic.bad[marker] = kinds[kind]
    traffic.world.publish(kinds[kind], one.dice.randrange(2))
    traffic.count(f"bad: {kind}")


def _ignored(traffic: Traffic, one: Family) -> None:
    edata = {"action": "user-ownership-transfer", "fromAccountId": f"ignored-{one.course}", "toAccountId": "b"}
    traffic.world.publish(json.dumps({"mid": f"ignored-{one.course}", "edata": edata}).encode(), one.dice.randrange(2))
    traffic.count("ignored")


def holds(one: Family, state: State) -> Holds:
    """Account -> whose history it must hold, and whose it may hold (its own and what came by merges that stand)."""
    names = [account.id for account in one.accounts]
    result: Holds = {name: ({name}, {name}) for name in names}
    if one.story in ("conflict", "circle"):
        winners = [wish for wish in one.wishes if state(wish.merge_id) == "completed"]
        for wish in winners:
            both = {wish.target, *wish.sources}
            result[wish.target] = (both, both)
        return result
    gone = {source for wish in one.undone for source in wish.sources}
    everyone = set(names) - gone
    result[names[-1]] = (everyone, everyone)
    if one.story == "chain":  # the middle has the first one's history if that merge came before its own
        result[names[1]] = ({names[1]}, {names[0], names[1]})
    return result


def problem(one: Family, states: Mapping[uuid.UUID, str]) -> str:
    """What is wrong with the states in which the family's merges ended, "" when nothing is."""
    ended = [states.get(wish.merge_id, "not in the journal") for wish in one.wishes]
    if one.story in ("conflict", "circle"):
        return "" if sorted(ended) == ["completed", "refused"] else f"one completed and one refused expected: {ended}"
    undone = {wish.merge_id for wish in one.undone}
    wanted = ["undone" if wish.merge_id in undone else "completed" for wish in one.wishes]
    return "" if ended == wanted else f"expected {wanted}, found {ended}"
