-- What only the volume APIs know of disks. A disk that was made otherwise has no row in `volume`: then what is said here to
-- be the default holds.

-- When its name, size, state or attachments last changed; NULL: never.
ALTER TABLE disk ADD COLUMN updated_at INTEGER;
-- Lists of volumes are newest first.
CREATE INDEX disk_by_project_made ON disk (project_id, created_at, id);
CREATE INDEX disk_by_made ON disk (created_at, id);

CREATE TABLE volume_type (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    description TEXT,
    is_public   INTEGER NOT NULL CHECK (is_public IN (0, 1)),
    created_at  INTEGER NOT NULL
) STRICT;
-- There is always one for those who name none. Its id is the same everywhere.
INSERT INTO volume_type (id, name, description, is_public, created_at)
VALUES ('5e11bd1f-0000-4000-8000-00000000d15c', 'default', 'qcow2, sparse', 1, 0);

-- What a type asks of storage.
CREATE TABLE volume_type_spec (
    type_id TEXT NOT NULL REFERENCES volume_type (id) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (type_id, key)
) STRICT, WITHOUT ROWID;

-- Who sees a type that is not public.
CREATE TABLE volume_type_access (
    type_id    TEXT NOT NULL REFERENCES volume_type (id) ON DELETE CASCADE,
    project_id TEXT NOT NULL,
    PRIMARY KEY (type_id, project_id)
) STRICT, WITHOUT ROWID;

-- `status`: what a client or an administrator said; NULL: it is derived. `empty_*`: the disk's text is empty because the
-- client gave an empty one, not none. `pristine`: nothing was written to the disk since its active image was made on its
-- parent, so the parent shows the same.
CREATE TABLE volume (
    disk_id           TEXT PRIMARY KEY REFERENCES disk (id) ON DELETE CASCADE,
    user_id           TEXT,
    type_id           TEXT REFERENCES volume_type (id),         -- NULL: the default one
    status            TEXT,
    empty_name        INTEGER NOT NULL DEFAULT 0 CHECK (empty_name IN (0, 1)),
    empty_description INTEGER NOT NULL DEFAULT 0 CHECK (empty_description IN (0, 1)),
    bootable          INTEGER CHECK (bootable IN (0, 1)),       -- NULL: as it is attached
    read_only         INTEGER CHECK (read_only IN (0, 1)),
    from_snapshot     TEXT,
    from_volume       TEXT,
    metadata          TEXT NOT NULL DEFAULT '{}',               -- an object of texts
    pristine          INTEGER NOT NULL DEFAULT 0 CHECK (pristine IN (0, 1))
) STRICT;
CREATE INDEX volume_by_type ON volume (type_id) WHERE type_id IS NOT NULL;

-- Whoever gets the disk may write to it, and another active image has another parent.
CREATE TRIGGER volume_attached AFTER INSERT ON attachment BEGIN
    UPDATE volume SET pristine = 0 WHERE disk_id = NEW.disk_id;
END;
CREATE TRIGGER volume_uploaded AFTER INSERT ON image_transfer WHEN NEW.direction = 'upload' BEGIN
    UPDATE volume SET pristine = 0 WHERE disk_id = NEW.disk_id;
END;
CREATE TRIGGER volume_moved AFTER UPDATE OF image_id ON disk BEGIN
    UPDATE volume SET pristine = 0 WHERE disk_id = NEW.id;
END;

-- Servers that are not VMs of ours and have the disk, as clients say.
CREATE TABLE volume_attachment (
    id          TEXT PRIMARY KEY,
    disk_id     TEXT NOT NULL REFERENCES disk (id) ON DELETE CASCADE,
    server_id   TEXT,
    host        TEXT,
    device      TEXT NOT NULL,
    read_only   INTEGER NOT NULL CHECK (read_only IN (0, 1)),
    attached_at INTEGER NOT NULL
) STRICT;
CREATE INDEX volume_attachment_by_disk ON volume_attachment (disk_id);
CREATE TRIGGER volume_lent AFTER INSERT ON volume_attachment BEGIN
    UPDATE volume SET pristine = 0 WHERE disk_id = NEW.disk_id;
END;

-- What a project may have; `project_id` '' is what holds for those that have no row of their own. -1: as much as it likes.
CREATE TABLE quota (
    project_id TEXT    NOT NULL,
    resource   TEXT    NOT NULL,
    hard_limit INTEGER NOT NULL CHECK (hard_limit >= -1),
    PRIMARY KEY (project_id, resource)
) STRICT, WITHOUT ROWID;

-- A disk offered to another project: at most one offer each. `key_hash`: the SHA-256 of the key that accepts it.
CREATE TABLE volume_transfer (
    id           TEXT PRIMARY KEY,
    disk_id      TEXT NOT NULL UNIQUE REFERENCES disk (id) ON DELETE CASCADE,
    project_id   TEXT NOT NULL,
    name         TEXT,
    key_hash     BLOB NOT NULL CHECK (length(key_hash) = 32),
    no_snapshots INTEGER NOT NULL CHECK (no_snapshots IN (0, 1)),
    created_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX volume_transfer_by_project ON volume_transfer (project_id, created_at, id);

-- Why things went to error, for people. `action` and `detail` are Cinder's codes.
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    project_id TEXT    NOT NULL,
    about_kind TEXT    NOT NULL,
    about_id   TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    text       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX message_by_project ON message (project_id, created_at, id);
CREATE INDEX message_by_end ON message (expires_at);
