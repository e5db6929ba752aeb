# Airflow with the product: the same hash-locked packages as everywhere else, the same folders as in the repository.
FROM apache/airflow:slim-3.3.2-python3.12

COPY --chown=airflow:root requirements.txt /opt/account-merge/requirements.txt
RUN pip install --no-cache-dir --require-hashes -r /opt/account-merge/requirements.txt

COPY --chown=airflow:root dags /opt/account-merge/dags
COPY --chown=airflow:root plugins /opt/account-merge/plugins
COPY --chown=airflow:root include /opt/account-merge/include
# Creates the topics, the platform's tables and the journal of the local stack.
COPY --chown=airflow:root local /opt/account-merge/local

WORKDIR /opt/account-merge
ENV PYTHONPATH=/opt/account-merge/include \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/account-merge/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/account-merge/plugins
