"""Every path of the app, with nobody, a viewer, an op and an admin, under both of Airflow's auth managers."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from platform_world import Learner
from web import APP, Caller, as_role, log_in

from local import airflow_parts, keys
from local.config import free_port
from local.processes import launch, stop, wait_ready
from tests.turns import turn

PASSWORD = "a-password-of-the-tests"
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
#: Not among the routes, and guarded all the same.
BESIDES = ("/", "/nothing", "/static/style.css", "/static/nothing", "/static/../app.py", "/api/v1/nothing", "/docs", "/redoc",
           "/openapi.json", "/api/v1/openapi.json", "/%2e%2e/api/v1/session", "//api/v1/session")  # fmt: skip


@pytest.fixture(scope="module")
def simple(airflow_stack, airflow):
    """Callers by role, of the simple auth manager."""
    url = airflow_stack.describe()["AIRFLOW_URL"]
    secret = keys.load(airflow_stack.config.home)["jwt_secret"]
    tokens = {"nobody": "", "junk": "x.y.z", "admin": airflow.token}
    tokens |= {role: as_role(airflow.token, role, secret) for role in ("viewer", "op")}
    tokens["forged"] = as_role(airflow.token, "admin", "another secret " * 5)
    return {role: Caller(url, token) for role, token in tokens.items()}


@pytest.fixture(scope="module")
def metadata(airflow_stack):
    """Nobody takes Airflow's database away while users of these tests are in it."""
    with turn(airflow_stack.config.home, "metadata", alone=False):
        yield


@pytest.fixture(scope="module")
def fab(airflow_stack, airflow, metadata, tmp_path_factory):
    """The same of FAB's auth manager, by an API server of its own; `public` has a user and no right."""
    home, port = tmp_path_factory.mktemp("fab"), free_port()
    env = airflow_parts.environment(airflow_stack.config, airflow_stack.ports() | {"airflow": port})
    env |= {"AIRFLOW__CORE__AUTH_MANAGER": FAB}
    command = [
        sys.executable,
        str(Path(__file__).with_name("fab_users.py")),
        PASSWORD,
        "Viewer",
        "Op",
        "Admin",
        "Public",
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    server = launch([sys.executable, "-m", "airflow", "api-server", "--workers", "1"], home / "fab.log", cwd=home, env=env,
                    port=port, patience=3)  # fmt: skip
    try:
        wait_ready("fab's api-server", server, airflow_parts.READY["api-server"], 300)
        url = f"http://127.0.0.1:{port}"
        users = {role.lower(): Caller(url, log_in(url, role, PASSWORD)) for role in ("Viewer", "Op", "Admin", "Public")}
        yield users | {"nobody": Caller(url), "forged": Caller(url, airflow.token)}
    finally:
        stop({"fab": server})


def routes():
    """(method, path) of every route that the app has, each parameter filled in, and of paths that it has not.

    Without the two of the EduBrite API: they have sessions of their own (tests/integration/plugins/test_edubrite.py).
    """
    from account_merge_airflow.web.app import create_app
    from account_merge_airflow.web.edubrite.routes import OPEN

    values = {"action": "undo", "dag_id": "account_merge"}
    found = [("DELETE", "/"), ("PUT", "/api/v1/merges"), ("OPTIONS", "/api/v1/merges")]
    found += [(method, path) for path in BESIDES for method in ("GET", "POST")]
    for route in (route for route in create_app().routes if route.path not in OPEN):
        path = re.sub(r"{(\w+)(:\w+)?}", lambda m: values.get(m[1], str(uuid.uuid4())), route.path)
        found += [(method, path) for method in getattr(route, "methods", None) or ("GET",)]
    assert len(found) > 40
    return sorted(set(found))


def walk(caller):
    """(method, path) -> status; no change is a valid one, so nothing is done."""
    sent = {"nonsense": True}
    return {(method, path): caller.http.request(method, APP + path, json=None if method in ("GET", "HEAD") else sent).status_code
            for method, path in routes()}  # fmt: skip


def check(callers):
    for role in callers.keys() & {"nobody", "junk", "forged"}:
        assert set(walk(callers[role]).values()) == {401}, role
    if "public" in callers:
        assert set(walk(callers["public"]).values()) == {403}
    reading = {"GET", "HEAD", "OPTIONS"}
    seen = walk(callers["viewer"])
    assert {status for (method, _), status in seen.items() if method not in reading} == {403}
    assert not {401, 403} & {status for (method, _), status in seen.items() if method in reading}
    for role in ("op", "admin"):
        statuses = set(walk(callers[role]).values())
        assert not {401, 403} & statuses, role
        assert max(statuses) < 500, role
        assert {200, 404, 405, 422} <= statuses


def test_every_route_is_guarded_with_the_simple_auth_manager(simple):
    check(simple)


def test_every_route_is_guarded_with_fab(fab):
    check(fab)


def test_runs_are_started_as_the_user_who_asks(world, fab, airflow):
    answer = fab["op"].post(
        "/merges", {"source_accounts": [Learner().account], "target_account": Learner().account}, "k"
    )
    assert answer.status_code == 202, answer.text
    run = airflow.run("account_merge", answer.json()["run"]["run_id"])
    assert run["triggering_user_name"] == "Op"


def test_a_browser_is_led_to_the_login_and_sees_only_our_own(simple):
    page = simple["nobody"].http.get(f"{APP}/?state=failed", headers={"Accept": "text/html"})
    assert page.status_code == 401
    assert "/api/v2/auth/login?next=%2Faccount-merge%2F%3Fstate%3Dfailed" in page.text
    page = simple["viewer"].http.get(f"{APP}/", headers={"Accept": "text/html"})
    for answer in (page, simple["viewer"].http.get(f"{APP}/static/style.css"), simple["nobody"].http.get(f"{APP}/x")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        assert "unsafe" not in policy
        assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == ("nosniff", "no-store")
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|https?://", page.text)


@pytest.mark.parametrize("headers", [
    {}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"}, {"Referer": "https://evil.example/"}, {"Origin": "null"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
])  # fmt: skip
def test_a_change_by_cookie_needs_our_own_page(simple, headers):
    http = simple["admin"].http
    token = simple["admin"].get("/session").json()["csrf_token"]
    with_cookie = {"Authorization": "", "Cookie": f"_token={simple['admin'].token}", "x-csrf-token": token} | headers
    answer = http.post(f"{APP}/api/v1/previews", json={}, headers=with_cookie)
    assert (answer.status_code, answer.json()["code"]) == (403, "OTHER_ORIGIN")


def test_a_change_by_cookie_needs_the_users_own_token(simple):
    http, ours = simple["admin"].http, str(simple["admin"].http.base_url)
    tokens = {role: simple[role].get("/session").json()["csrf_token"] for role in ("admin", "op")}
    assert tokens["admin"] != tokens["op"]
    cookie = {
        "Authorization": "",
        "Cookie": f"_token={simple['admin'].token}",
        "Origin": ours,
        "Sec-Fetch-Site": "same-origin",
    }
    for token in ("", "x", tokens["op"], "ü", tokens["admin"][:-1]):
        answer = http.post(f"{APP}/api/v1/previews", json={}, headers=cookie | {"x-csrf-token": token.encode()})
        assert (answer.status_code, answer.json()["code"]) == (403, "BAD_CSRF_TOKEN"), token
    answer = http.post(f"{APP}/api/v1/previews", json={}, headers=cookie | {"x-csrf-token": tokens["admin"]})
    assert answer.json()["code"] == "BAD_REQUEST"  # it came through
    form = {"csrf_token": tokens["admin"], "other": "x"}
    assert http.post(f"{APP}/api/v1/previews", data=form, headers=cookie).json()["code"] == "BAD_REQUEST"
    assert (
        http.post(f"{APP}/api/v1/previews", data={"csrf_token": "x"}, headers=cookie).json()["code"] == "BAD_CSRF_TOKEN"
    )


def test_hostile_names_stay_text(world, simple, core):
    name = f"<script>alert(1)</script>\"'&{{{{7*7}}}}{uuid.uuid4().hex}"
    answer = simple["admin"].post(
        "/merges", {"source_accounts": [name], "target_account": Learner().account, "reason": name}, uuid.uuid4().hex
    )
    assert answer.status_code == 202, answer.text
    page = simple["viewer"].http.get(f"{APP}/", headers={"Accept": "text/html"}).text
    assert "<script>alert" not in page
    assert "7*7" in page
    found = simple["viewer"].get("/accounts/" + name.replace("/", "%2F").replace("&", "%26").replace("<", "%3C"))
    assert found.json()["account"] == name
    assert found.headers["content-type"] == "application/json"
