-- First schema (manager.md 1.5). Identifiers are lower-case UUID texts, times are Unix milliseconds, lists and
-- maps are JSON texts. There is no foreign key to `cluster`: rows of deleted clusters stay readable until they
-- expire.

CREATE TABLE cluster (
    id                         TEXT PRIMARY KEY,
    name                       TEXT NOT NULL,
    labels                     TEXT NOT NULL DEFAULT '{}',
    host                       TEXT NOT NULL,
    known_hosts                TEXT NOT NULL DEFAULT '[]',
    port                       INTEGER NOT NULL DEFAULT 0,
    auth_token                 TEXT NOT NULL DEFAULT '',
    force_tls_disabled         INTEGER NOT NULL DEFAULT 0,
    force_non_ssl_session_port INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX cluster_name ON cluster (name) WHERE name <> '';

-- Keys: cql_creds, alternator_creds, tls_identity.
CREATE TABLE secrets (
    cluster_id TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      BLOB NOT NULL,
    PRIMARY KEY (cluster_id, key)
) STRICT, WITHOUT ROWID;

-- Small state of a cluster. Keys: scheduler_suspended; switched_off/<what> while a run holds a switch.
CREATE TABLE drawer (
    cluster_id TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      BLOB NOT NULL,
    PRIMARY KEY (cluster_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE scheduler_task (
    cluster_id    TEXT NOT NULL,
    type          TEXT NOT NULL,
    id            TEXT NOT NULL,
    name          TEXT NOT NULL DEFAULT '',
    labels        TEXT NOT NULL DEFAULT '{}',
    enabled       INTEGER NOT NULL DEFAULT 0,
    deleted       INTEGER NOT NULL DEFAULT 0,
    sched         TEXT NOT NULL DEFAULT '{}',
    properties    TEXT NOT NULL DEFAULT '{}',
    status        TEXT NOT NULL DEFAULT 'NEW',
    success_count INTEGER NOT NULL DEFAULT 0,
    error_count   INTEGER NOT NULL DEFAULT 0,
    last_success  INTEGER,
    last_error    INTEGER,
    PRIMARY KEY (cluster_id, type, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX scheduler_task_name ON scheduler_task (cluster_id, type, name) WHERE name <> '' AND deleted = 0;

CREATE TABLE scheduler_task_run (
    cluster_id TEXT NOT NULL,
    type       TEXT NOT NULL,
    task_id    TEXT NOT NULL,
    id         TEXT NOT NULL,
    status     TEXT NOT NULL,
    cause      TEXT NOT NULL DEFAULT '',
    owner      TEXT NOT NULL DEFAULT '',
    start_time INTEGER NOT NULL,
    end_time   INTEGER,
    PRIMARY KEY (cluster_id, type, task_id, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX scheduler_task_run_newest ON scheduler_task_run (cluster_id, type, task_id, start_time DESC, id);
CREATE INDEX scheduler_task_run_age ON scheduler_task_run (start_time);

CREATE TABLE backup_run (
    cluster_id              TEXT NOT NULL,
    task_id                 TEXT NOT NULL,
    id                      TEXT NOT NULL,
    prev_id                 TEXT,
    snapshot_tag            TEXT NOT NULL DEFAULT '',
    units                   TEXT NOT NULL DEFAULT '[]',
    dc                      TEXT NOT NULL DEFAULT '[]',
    nodes                   TEXT NOT NULL DEFAULT '[]',
    location                TEXT NOT NULL DEFAULT '[]',
    start_time              INTEGER NOT NULL,
    stage                   TEXT NOT NULL DEFAULT '',
    retention_lock_mode     TEXT NOT NULL DEFAULT 'disabled',
    override_retention_lock INTEGER NOT NULL DEFAULT 0,
    retention_days          INTEGER NOT NULL DEFAULT 0,
    warnings                TEXT NOT NULL DEFAULT '[]',
    -- Files of the run are lost: no later run may go on with it.
    abandoned               INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (cluster_id, task_id, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX backup_run_newest ON backup_run (cluster_id, task_id, start_time DESC, id);
CREATE INDEX backup_run_age ON backup_run (start_time);

CREATE TABLE backup_run_progress (
    cluster_id          TEXT NOT NULL,
    task_id             TEXT NOT NULL,
    run_id              TEXT NOT NULL,
    host                TEXT NOT NULL,
    unit                INTEGER NOT NULL,
    table_name          TEXT NOT NULL,
    agent_job_id        INTEGER,
    scylla_task_id      TEXT,
    started_at          INTEGER,
    completed_at        INTEGER,
    error               TEXT NOT NULL DEFAULT '',
    size                INTEGER NOT NULL DEFAULT 0,
    uploaded            INTEGER NOT NULL DEFAULT 0,
    skipped             INTEGER NOT NULL DEFAULT 0,
    failed              INTEGER NOT NULL DEFAULT 0,
    files_count         INTEGER NOT NULL DEFAULT 0,
    files_skipped_count INTEGER NOT NULL DEFAULT 0,
    -- JSON list of names: Data.db files whose bytes differ from their own digest.
    damaged             TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (cluster_id, task_id, run_id, host, unit, table_name),
    FOREIGN KEY (cluster_id, task_id, run_id) REFERENCES backup_run (cluster_id, task_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- What agents' jobs reported about the files they sent: a packed JSON list. Dropped once the manifests, which
-- repeat it, are published.
CREATE TABLE backup_run_checksums (
    cluster_id TEXT NOT NULL,
    task_id    TEXT NOT NULL,
    run_id     TEXT NOT NULL,
    host       TEXT NOT NULL,
    unit       INTEGER NOT NULL,
    table_name TEXT NOT NULL,
    files      BLOB NOT NULL,
    PRIMARY KEY (cluster_id, task_id, run_id, host, unit, table_name),
    FOREIGN KEY (cluster_id, task_id, run_id) REFERENCES backup_run (cluster_id, task_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Objects in a location whose bytes are known to be wrong. Deduplication treats their SSTables as absent and
-- the next upload replaces them; the new bytes must have this CRC-32 where it is known.
CREATE TABLE damaged_object (
    location TEXT NOT NULL,
    key      TEXT NOT NULL,
    crc32    INTEGER,
    found_at INTEGER NOT NULL,
    PRIMARY KEY (location, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE restore_run (
    cluster_id     TEXT NOT NULL,
    task_id        TEXT NOT NULL,
    id             TEXT NOT NULL,
    prev_id        TEXT,
    snapshot_tag   TEXT NOT NULL,
    stage          TEXT NOT NULL DEFAULT '',
    repair_task_id TEXT,
    units          TEXT NOT NULL DEFAULT '[]',
    views          TEXT NOT NULL DEFAULT '[]',
    start_time     INTEGER NOT NULL,
    PRIMARY KEY (cluster_id, task_id, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX restore_run_age ON restore_run (start_time);

CREATE TABLE restore_run_progress (
    cluster_id            TEXT NOT NULL,
    task_id               TEXT NOT NULL,
    run_id                TEXT NOT NULL,
    remote_sstable_dir    TEXT NOT NULL,
    keyspace_name         TEXT NOT NULL,
    table_name            TEXT NOT NULL,
    host                  TEXT NOT NULL,
    agent_job_id          INTEGER NOT NULL DEFAULT 0,
    scylla_task_id        TEXT NOT NULL DEFAULT '',
    sstable_id            TEXT NOT NULL DEFAULT '[]',
    download_started_at   INTEGER,
    download_completed_at INTEGER,
    restore_started_at    INTEGER,
    restore_completed_at  INTEGER,
    restored              INTEGER NOT NULL DEFAULT 0,
    downloaded            INTEGER NOT NULL DEFAULT 0,
    versioned_downloaded  INTEGER NOT NULL DEFAULT 0,
    failed                INTEGER NOT NULL DEFAULT 0,
    error                 TEXT NOT NULL DEFAULT '',
    shard_cnt             INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (cluster_id, task_id, run_id, remote_sstable_dir, keyspace_name, table_name, host, agent_job_id,
                 scylla_task_id),
    FOREIGN KEY (cluster_id, task_id, run_id) REFERENCES restore_run (cluster_id, task_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE validate_backup_run_progress (
    cluster_id       TEXT NOT NULL,
    task_id          TEXT NOT NULL,
    run_id           TEXT NOT NULL,
    dc               TEXT NOT NULL,
    host             TEXT NOT NULL,
    location         TEXT NOT NULL,
    manifests        INTEGER NOT NULL DEFAULT 0,
    scanned_files    INTEGER NOT NULL DEFAULT 0,
    broken_snapshots TEXT NOT NULL DEFAULT '[]',
    missing_files    INTEGER NOT NULL DEFAULT 0,
    orphaned_files   INTEGER NOT NULL DEFAULT 0,
    orphaned_bytes   INTEGER NOT NULL DEFAULT 0,
    deleted_files    INTEGER NOT NULL DEFAULT 0,
    started_at       INTEGER NOT NULL,
    completed_at     INTEGER,
    PRIMARY KEY (cluster_id, task_id, run_id, dc, host, location)
) STRICT, WITHOUT ROWID;
CREATE INDEX validate_backup_run_progress_age ON validate_backup_run_progress (started_at);
