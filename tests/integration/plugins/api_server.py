"""Airflow's sign-in and our web app in a process of their own, without Airflow's scheduler and database server.

    python api_server.py PORT

The auth manager, its tokens, its routes and the app are the real ones; the metadata database is a file with the one
table that a token's check reads.
"""

from __future__ import annotations

import sys

import uvicorn
from airflow.api_fastapi.app import init_access_logging, init_auth_manager
from airflow.models.revoked_token import RevokedToken
from airflow.settings import engine
from fastapi import FastAPI

from account_merge_airflow.web import LazyApp

root = FastAPI()
RevokedToken.__table__.create(engine, checkfirst=True)
init_auth_manager(root)
init_access_logging(root)
root.mount(LazyApp.PREFIX, LazyApp())
uvicorn.run(root, host="127.0.0.1", port=int(sys.argv[1]), access_log=False)
