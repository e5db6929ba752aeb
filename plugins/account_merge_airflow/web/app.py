"""The app: the guard, the pages, the API and its OpenAPI document, the static files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from account_merge_airflow.web.api import api
from account_merge_airflow.web.api.document import document
from account_merge_airflow.web.edubrite.routes import router as edubrite
from account_merge_airflow.web.guard import Guard
from account_merge_airflow.web.pages import pages
from account_merge_airflow.web.problems import add_handlers
from account_merge_airflow.web.service import Core, server_settings
from account_merge_airflow.web.templating import STATIC

if TYPE_CHECKING:
    from account_merge.settings import Settings


def create_app(settings: Callable[[], Settings] = server_settings) -> FastAPI:
    """Return the app; it opens nothing yet. Every path of it, known or not, is behind the guard."""
    app = FastAPI(title="Account merge", version="1", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    app.state.core = Core(settings)
    app.add_middleware(Guard)
    add_handlers(app)
    app.include_router(api)
    app.include_router(pages)
    app.include_router(edubrite)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app
