-- The snapshot graph, its jobs, locks and events. Times are microseconds since the epoch, UTC; sizes are bytes;
-- ids are lower-case hyphenated UUIDs; JSON columns hold records that only the engine reads.

CREATE TABLE storage_domain (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    path        TEXT NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL
) STRICT;

-- A saved guest memory: the file <id>.memory in its domain's directory.
CREATE TABLE memory (
    id          TEXT PRIMARY KEY,
    domain_id   TEXT NOT NULL REFERENCES storage_domain (id),
    size_bytes  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE vm (
    id            TEXT PRIMARY KEY,
    project_id    TEXT NOT NULL,
    name          TEXT NOT NULL UNIQUE,
    config        TEXT NOT NULL,
    status        TEXT NOT NULL,
    status_detail TEXT NOT NULL DEFAULT '',
    process       TEXT,
    resume_memory TEXT REFERENCES memory (id),
    generation    INTEGER NOT NULL DEFAULT 1,
    created_at    INTEGER NOT NULL,
    started_at    INTEGER,
    stopped_at    INTEGER
) STRICT;
CREATE INDEX vm_by_project ON vm (project_id, name);

-- Images are a tree: one parent at most, any number of users. `state`: creating (a job is making it), live,
-- doomed (no user; its file is being removed).
CREATE TABLE image (
    id          TEXT PRIMARY KEY,
    disk_id     TEXT NOT NULL,
    parent_id   TEXT REFERENCES image (id),
    domain_id   TEXT NOT NULL REFERENCES storage_domain (id),
    format      TEXT NOT NULL,
    size_bytes  INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('creating', 'live', 'doomed')),
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX image_by_parent ON image (parent_id);
CREATE INDEX image_by_disk ON image (disk_id);
CREATE INDEX image_by_state ON image (state) WHERE state <> 'live';

CREATE TABLE disk (
    id          TEXT PRIMARY KEY,
    project_id  TEXT NOT NULL,
    domain_id   TEXT NOT NULL REFERENCES storage_domain (id),
    alias       TEXT NOT NULL,
    description TEXT NOT NULL,
    size_bytes  INTEGER NOT NULL,
    sparse      INTEGER NOT NULL,
    image_id    TEXT NOT NULL REFERENCES image (id),
    illegal     TEXT,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX disk_by_alias ON disk (alias, id);
CREATE INDEX disk_by_project ON disk (project_id, alias, id);
CREATE INDEX disk_by_image ON disk (image_id);

CREATE TABLE attachment (
    vm_id       TEXT NOT NULL REFERENCES vm (id),
    disk_id     TEXT NOT NULL REFERENCES disk (id),
    interface   TEXT NOT NULL,
    bootable    INTEGER NOT NULL,
    active      INTEGER NOT NULL,
    read_only   INTEGER NOT NULL,
    slot        INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    PRIMARY KEY (vm_id, disk_id)
) STRICT;
CREATE INDEX attachment_by_disk ON attachment (disk_id);

-- `seq` is the order of making within the VM; the active snapshot's is the highest.
CREATE TABLE snapshot (
    id          TEXT PRIMARY KEY,
    vm_id       TEXT NOT NULL REFERENCES vm (id),
    kind        TEXT NOT NULL,
    description TEXT NOT NULL,
    date        INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    memory_id   TEXT REFERENCES memory (id),
    config      TEXT,
    UNIQUE (vm_id, seq)
) STRICT;
CREATE INDEX snapshot_by_memory ON snapshot (memory_id) WHERE memory_id IS NOT NULL;

CREATE TABLE snapshot_disk (
    snapshot_id TEXT NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
    disk_id     TEXT NOT NULL,
    image_id    TEXT NOT NULL REFERENCES image (id),
    PRIMARY KEY (snapshot_id, disk_id)
) STRICT;
CREATE INDEX snapshot_disk_by_image ON snapshot_disk (image_id);
CREATE INDEX snapshot_disk_by_disk ON snapshot_disk (disk_id);

-- Durable jobs. `pivot_reached`: from here only forward.
CREATE TABLE job (
    id              TEXT PRIMARY KEY,
    kind            TEXT NOT NULL,
    version         INTEGER NOT NULL,
    params          TEXT NOT NULL,
    state           TEXT NOT NULL,
    pivot_reached   INTEGER NOT NULL DEFAULT 0,
    description     TEXT NOT NULL,
    project_id      TEXT NOT NULL,
    vm_id           TEXT,
    owner_id        TEXT NOT NULL,
    owner_name      TEXT NOT NULL,
    correlation_id  TEXT NOT NULL,
    failure         TEXT,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    ended_at        INTEGER
) STRICT;
CREATE INDEX job_unfinished ON job (id) WHERE state IN ('queued', 'running', 'unwinding');
CREATE INDEX job_by_correlation ON job (correlation_id);
CREATE INDEX job_by_end ON job (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE job_step (
    job_id      TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    seq         INTEGER NOT NULL,
    id          TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,
    args        TEXT NOT NULL,
    description TEXT NOT NULL,
    pivot       INTEGER NOT NULL,
    state       TEXT NOT NULL,
    output      TEXT,
    progress    INTEGER NOT NULL DEFAULT 0,
    started_at  INTEGER,
    ended_at    INTEGER,
    PRIMARY KEY (job_id, seq)
) STRICT;

-- A lock is a row that lives in the transaction that makes its job and dies in the one that ends it.
CREATE TABLE entity_lock (
    kind        TEXT NOT NULL,
    entity_id   TEXT NOT NULL,
    job_id      TEXT NOT NULL REFERENCES job (id),
    mode        TEXT NOT NULL,
    PRIMARY KEY (kind, entity_id, job_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX entity_lock_by_job ON entity_lock (job_id);

CREATE TABLE event (
    idx             INTEGER PRIMARY KEY AUTOINCREMENT,
    code            INTEGER NOT NULL,
    severity        TEXT NOT NULL,
    text            TEXT NOT NULL,
    at              INTEGER NOT NULL,
    correlation_id  TEXT,
    project_id      TEXT,
    user_id         TEXT,
    user_name       TEXT,
    vm_id           TEXT,
    vm_name         TEXT,
    disk_id         TEXT,
    disk_alias      TEXT
) STRICT;
CREATE INDEX event_by_correlation ON event (correlation_id) WHERE correlation_id IS NOT NULL;
