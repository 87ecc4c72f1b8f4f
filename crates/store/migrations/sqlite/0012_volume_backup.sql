-- Backups of volumes that clients of Cinder's dialect asked for. There is no such service yet, so each has failed; it is kept
-- until its client removes it, also when the volume is gone.
CREATE TABLE volume_backup (
    id          TEXT    NOT NULL PRIMARY KEY,
    project_id  TEXT    NOT NULL,
    user_id     TEXT,
    disk_id     TEXT    NOT NULL,
    snapshot_id TEXT,
    name        TEXT,
    description TEXT,
    container   TEXT,
    metadata    TEXT    NOT NULL DEFAULT '{}',                        -- an object of texts
    size_bytes  INTEGER NOT NULL,
    moment      INTEGER NOT NULL,                                     -- of which it would have been
    reason      TEXT    NOT NULL,                                     -- why it failed
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER
) STRICT;
CREATE INDEX volume_backup_by_project ON volume_backup (project_id, created_at, id);
CREATE INDEX volume_backup_by_time ON volume_backup (created_at, id);
