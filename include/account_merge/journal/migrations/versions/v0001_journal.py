"""The journal: merges, accounts, log, history and what belongs to no merge."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_STATES = (
    "'proposed', 'refused', 'requested', 'started', 'waiting', 'running', 'failed', 'paused', 'needs_attention', "
    "'completed', 'abandoned', 'undoing', 'undone', 'redoing', 'rejected', 'expired', 'erased'"
)

#: Words are checked here, so that no program and no hand writes a state that the code does not know. Who holds an account
#: names a merge that exists. `payload` is compressed before it comes: PostgreSQL shall not try again.
TABLES = f"""
CREATE TABLE journal (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    journal_id uuid NOT NULL,
    hash_key bytea NOT NULL CHECK (length(hash_key) = 32),
    created_at timestamptz NOT NULL
);

CREATE TABLE merges (
    merge_id uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ({_STATES})),
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    sources text[] NOT NULL,
    target text NOT NULL,
    tables text[] NOT NULL,
    on_conflict text NOT NULL CHECK (on_conflict IN ('combine', 'skip')),
    source_rows text NOT NULL CHECK (source_rows IN ('keep', 'deactivate')),
    dry_run boolean NOT NULL,
    tenant text NOT NULL,
    dated bigint,
    seeded boolean NOT NULL,
    deactivate_sources boolean NOT NULL,
    choices text NOT NULL,
    doubt text NOT NULL,
    reason text,
    requested_by text,
    origin text NOT NULL,
    mid text,
    topic_position text,
    raw bytea,
    parent uuid REFERENCES merges (merge_id),
    survivor text,
    rules_hash text,
    run_ids text[] NOT NULL DEFAULT '{{}}',
    resume text CHECK (resume IN ('wanted', 'started')),
    waiting_for text,
    waiting_holder uuid,
    operation text,
    sync_sent integer,
    replayed_as uuid,
    digests json NOT NULL DEFAULT '{{}}',
    note text,
    error_code text,
    error text,
    remedy text,
    failed_event text NOT NULL CHECK (failed_event IN ('none', 'due', 'sending', 'sent', 'undeliverable')),
    failed_number integer NOT NULL DEFAULT 1 CHECK (failed_number > 0),
    failed_at timestamptz,
    failed_offsets json,
    plan bytea,
    approved_by text,
    approval_run text,
    settles integer NOT NULL DEFAULT 0,
    settle_at timestamptz,
    expiry text CHECK (expiry IN ('begun', 'done')),
    images_gone timestamptz,
    former text CHECK (former IN ({_STATES})),
    created_at timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    closed_at timestamptz,
    CHECK ((state = 'erased') = (former IS NOT NULL)),
    CHECK (state <> 'waiting' OR waiting_for IS NOT NULL),
    CHECK (settle_at IS NULL OR state = 'completed'),
    CHECK (state IN ('refused', 'erased') OR (target <> '' AND cardinality(sources) > 0))
);

CREATE TABLE merge_accounts (
    account_id text NOT NULL,
    merge_id uuid NOT NULL REFERENCES merges (merge_id) ON DELETE CASCADE,
    PRIMARY KEY (account_id, merge_id)
);

CREATE TABLE accounts (
    account_id text PRIMARY KEY,
    held_by uuid REFERENCES merges (merge_id),
    role text CHECK (role IN ('source', 'target')),
    wanted boolean NOT NULL DEFAULT false,
    CHECK ((held_by IS NULL) = (role IS NULL))
);

CREATE TABLE moves (
    account_id text NOT NULL REFERENCES accounts (account_id) ON UPDATE CASCADE,
    role text NOT NULL CHECK (role IN ('source', 'target')),
    merge_id uuid NOT NULL REFERENCES merges (merge_id),
    operation text NOT NULL DEFAULT '',
    position bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (account_id, role, merge_id, operation),
    CHECK (role = 'target' OR operation = '')
);

CREATE TABLE log (
    merge_id uuid NOT NULL REFERENCES merges (merge_id),
    name text NOT NULL,
    seq integer NOT NULL CHECK (seq >= 0),
    kind text NOT NULL CHECK (kind IN ('changes', 'fold', 'end', 'closed', 'skip')),
    last_key bytea,
    base bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND 999),
    writer uuid NOT NULL,
    counts json NOT NULL,
    payload bytea,
    kept bytea,
    salt bytea,
    sealed bytea NOT NULL CHECK (length(sealed) = 32),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    note text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (merge_id, name, seq)
);
ALTER TABLE log ALTER COLUMN payload SET STORAGE EXTERNAL, ALTER COLUMN kept SET STORAGE EXTERNAL;

CREATE TABLE plans (
    merge_id uuid NOT NULL REFERENCES merges (merge_id),
    table_name text NOT NULL,
    seq integer NOT NULL CHECK (seq >= 0),
    digests bytea NOT NULL,
    counts json,
    PRIMARY KEY (merge_id, table_name, seq)
);

CREATE TABLE failed_events (
    merge_id uuid NOT NULL REFERENCES merges (merge_id),
    number integer NOT NULL CHECK (number > 0),
    state text NOT NULL CHECK (state IN ('due', 'sending', 'sent', 'undeliverable')),
    code text NOT NULL,
    error text NOT NULL,
    remedy text NOT NULL,
    refused boolean NOT NULL,
    sent_at timestamptz,
    offsets json,
    PRIMARY KEY (merge_id, number)
);

CREATE TABLE history (
    merge_id uuid NOT NULL REFERENCES merges (merge_id),
    position bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    before text CHECK (before IN ({_STATES})),
    after text NOT NULL CHECK (after IN ({_STATES})),
    actor text,
    run_id text,
    task_id text,
    note text,
    error_code text,
    error text,
    PRIMARY KEY (merge_id, position)
);

CREATE TABLE stops (
    tenant text PRIMARY KEY,
    actor text NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    since timestamptz NOT NULL
);

CREATE TABLE acts (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    of text NOT NULL CHECK (of IN ('switch', 'erasures')),
    what text NOT NULL,
    about bytea,
    note text NOT NULL,
    at timestamptz NOT NULL
);

CREATE TABLE scans (
    name text NOT NULL,
    seq integer NOT NULL CHECK (seq >= 0),
    entry json NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (name, seq)
);
"""

#: What is open is found by small partial indexes, whatever number of merges is closed.
INDEXES = """
CREATE INDEX merges_requested ON merges (created_at, merge_id) WHERE state = 'requested';
CREATE INDEX merges_waiting ON merges (waiting_for, created_at, merge_id) WHERE state = 'waiting';
CREATE INDEX merges_under_way ON merges (updated_at, merge_id)
    WHERE state IN ('started', 'running', 'undoing', 'redoing');
CREATE INDEX merges_to_resume ON merges (resume, created_at, merge_id) WHERE resume IS NOT NULL;
CREATE INDEX merges_owing ON merges (failed_event, created_at, merge_id)
    WHERE failed_event IN ('due', 'sending', 'undeliverable');
CREATE INDEX failed_events_owed ON failed_events (merge_id, number) WHERE state IN ('due', 'sending');
CREATE INDEX merges_to_settle ON merges (settle_at, merge_id) WHERE settle_at IS NOT NULL;
CREATE INDEX merges_with_images ON merges (closed_at, merge_id)
    WHERE closed_at IS NOT NULL AND expiry IS DISTINCT FROM 'done';
CREATE INDEX merges_nameless ON merges (merge_id) WHERE state = 'refused' AND target = '';
CREATE INDEX merges_by_state ON merges (state, created_at, merge_id);
CREATE INDEX merges_by_time ON merges (created_at, merge_id) INCLUDE (state, error_code);
CREATE INDEX merges_by_origin ON merges (origin, created_at, merge_id);
CREATE INDEX merges_failed ON merges (state, state_at, merge_id)
    WHERE state IN ('refused', 'failed', 'needs_attention') AND resume IS NULL AND replayed_as IS NULL;
CREATE INDEX merges_by_parent ON merges (parent) WHERE parent IS NOT NULL;
CREATE INDEX merge_accounts_by_merge ON merge_accounts (merge_id);
CREATE INDEX accounts_by_holder ON accounts (held_by) WHERE held_by IS NOT NULL;
CREATE INDEX accounts_wanted ON accounts (account_id) WHERE wanted AND held_by IS NULL;
CREATE INDEX moves_in_order ON moves (account_id, role, position);
CREATE INDEX moves_by_merge ON moves (merge_id);
CREATE INDEX acts_in_order ON acts (of, position);
"""


def upgrade() -> None:
    """Make the tables, and the journal's own key."""
    for statement in (TABLES + INDEXES).split(";\n"):
        if statement.strip():
            op.execute(statement)
