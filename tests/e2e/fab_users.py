"""Run as a program with the environment of an Airflow that has FAB's auth manager: its tables, and a user for each role.

usage: fab_users.py PASSWORD ROLE...   The user of a role has its name.
"""

from __future__ import annotations

import sys


def main(password: str, roles: list[str]) -> None:
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
    from airflow.providers.fab.auth_manager.models.db import FABDBManager
    from airflow.utils.session import create_session

    with create_session() as session:
        FABDBManager(session).initdb()
    with get_application_builder() as builder:
        for role in roles:
            if builder.sm.find_user(role) is None:
                builder.sm.add_user(role, role, role, f"{role}@example.org", builder.sm.find_role(role), password)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
