"""Pages from the files in `templates/`: every value is escaped, an unknown one is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from account_merge_airflow.web import filters

HERE = Path(__file__).parent
STATIC = HERE / "static"
TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
TEMPLATES.filters.update(filters.FILTERS)


def page(scope: Any, template: str, **shown: Any) -> str:
    """Return a filled template. It also knows `base`, the path that all our links begin with, and `airflow`, Airflow's own.

    :param scope: the request's; `caller` in it, when there is one, is the logged-in user.
    """
    from account_merge_airflow.web import LazyApp

    base = scope.get("root_path", "")
    known = {"base": base, "airflow": base.removesuffix(LazyApp.PREFIX), "caller": scope.get("caller")}
    return TEMPLATES.get_template(template).render(known | shown)
