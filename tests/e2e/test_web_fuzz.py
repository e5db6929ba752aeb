"""The API, fuzzed by its own document: no request makes it fail, and each answer is one that the document names."""

from __future__ import annotations

from urllib.parse import quote

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup
from web import APP, Caller

EXAMPLES = 12
load_all_checks()
#: What every answer must hold. The others ask for more than a document can promise, or need more than one call.
KEPT = CHECKS.get_by_names(["not_a_server_error", "status_code_conformance", "content_type_conformance",
                            "response_headers_conformance", "response_schema_conformance", "negative_data_rejection"])  # fmt: skip


@pytest.fixture
def stopped(core):
    """No merge that the fuzzing opens is started; each is abandoned at the end."""
    core.switch.pause("", "tests", "fuzzing")
    yield
    for merge in core.journal.find("state", "requested"):
        if merge.request.origin == "api":
            core.undoing.abandon(merge.merge_id, "fuzzed")
    for merge in core.journal.find("state", "proposed"):
        if merge.request.origin == "api":
            core.proposals.reject(merge.merge_id, "tests", "fuzzed")
    core.switch.resume("", "tests")


@pytest.fixture
def document(airflow_stack, airflow, stopped):
    url = airflow_stack.describe()["AIRFLOW_URL"]
    found = schemathesis.openapi.from_dict(Caller(url, airflow.token).get("/openapi.json").json())
    found.config.update(base_url=url + APP)
    found.config.generation.update(modes=list(schemathesis.GenerationMode), with_security_parameters=False)
    return found


@pytest.mark.alone
def test_no_request_breaks_the_api(document, airflow):
    headers = {"Authorization": f"Bearer {airflow.token}"}
    seen, failures = set(), []
    for found in document.get_all_operations():
        operation = found.ok()

        for mode in schemathesis.GenerationMode:

            @hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
                                 suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def fuzz(case):
                body = case.body if isinstance(case.body, dict) else {}
                # What would turn on or off more than this test is left out; the walk of all routes has been there.
                hypothesis.assume(not (case.path.endswith("/switches") and body.get("action") in ("pause", "resume")))
                # Airflow's router hands no path with a line break on: it answers 404 itself.
                hypothesis.assume(
                    not any(
                        "%0A" in quote(str(value)) or "%0A" in str(value)
                        for value in (case.path_parameters or {}).values()
                    )
                )
                if "dry_run" in body or case.path.endswith(("/replay", "/retry", "/{action}")):
                    body["dry_run"] = True
                case.call_and_validate(headers=headers, checks=KEPT)
                seen.add((case.method, case.path))

            try:
                fuzz()
            except hypothesis.errors.Unsatisfiable:
                continue
            except FailureGroup as found_wrong:
                failures += [f"{operation.label}: {found_wrong}"]
    assert not failures, "\n\n".join(failures)
    assert len(seen) >= 15
