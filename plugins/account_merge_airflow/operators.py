"""The operator that starts merges, where Airflow's own would read what an event says as a template."""

from __future__ import annotations

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator


class StartMergeOperator(TriggerDagRunOperator):
    """Triggers a run with exactly the conf it is given: an account id like `{{ var.value.x }}` stays text.

    Airflow's own operator renders its conf with Jinja, and account ids come from the topic.
    """

    template_fields = ()
