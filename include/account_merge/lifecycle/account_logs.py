"""The logs of a merge whose names hold an account id: redaction decides what stays of each, an erasure renames each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from account_merge.engine.merge_tables import set_inactive
from account_merge.engine.table_merge import source_log
from account_merge.lifecycle.deactivation import ACCOUNT, Deactivation
from account_merge.model import Merge
from account_merge.rules import RULES, TableRule


@dataclass(frozen=True)
class AccountLog:
    """A log that is called by a source account.

    :param rule: the table whose rows it is about; `ACCOUNT` where the account itself was deactivated.
    """

    rule: TableRule
    account: str

    @property
    def name(self) -> str:
        """The log's name."""
        return self.called_by(self.account)

    def called_by(self, account: str) -> str:
        """Return the log's name with another account id."""
        return source_log(self.rule, account)


def account_logs(merge: Merge) -> Iterator[AccountLog]:
    """Yield every such log of a merge itself; each undo and redo has the same behind its own name."""
    for rule in RULES:
        yield from (AccountLog(rule, account) for account in set_inactive(merge, rule))
    yield from (AccountLog(ACCOUNT, account) for account in Deactivation.accounts(merge))
