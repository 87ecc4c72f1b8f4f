-- Backups and checkpoints. A backup has a job of the same id; the row outlives the job so that a client can still read
-- how it ended.
CREATE TABLE backup (
    id              TEXT PRIMARY KEY,
    project_id      TEXT NOT NULL,
    vm_id           TEXT NOT NULL,
    vm_name         TEXT NOT NULL,
    description     TEXT NOT NULL,
    kind            TEXT NOT NULL,
    from_checkpoint TEXT,
    to_checkpoint   TEXT NOT NULL,
    snapshot_id     TEXT,                                         -- the one that users see, while there is one
    phase           TEXT NOT NULL,
    consistent      INTEGER NOT NULL CHECK (consistent IN (0, 1)), -- the guest's file systems were frozen, or it was down
    reason          TEXT,                                         -- why it failed, or is failing
    lease_until     INTEGER NOT NULL,                             -- who does not come back until then has left
    created_at      INTEGER NOT NULL,
    modified_at     INTEGER NOT NULL,
    ended_at        INTEGER
) STRICT;
CREATE INDEX backup_by_vm ON backup (vm_id, created_at);
CREATE INDEX backup_live ON backup (vm_id) WHERE ended_at IS NULL;
CREATE INDEX backup_by_end ON backup (ended_at) WHERE ended_at IS NOT NULL;

-- `image_id`: the image that was frozen, which is what the backup reads. While the backup has not ended, neither it nor
-- what is below it may change or go.
CREATE TABLE backup_disk (
    backup_id   TEXT NOT NULL REFERENCES backup (id) ON DELETE CASCADE,
    disk_id     TEXT NOT NULL,
    image_id    TEXT NOT NULL,
    size_bytes  INTEGER NOT NULL,
    mode        TEXT NOT NULL,
    why_full    TEXT,                                             -- why it is full although a checkpoint was given
    position    INTEGER NOT NULL,
    PRIMARY KEY (backup_id, disk_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX backup_disk_by_image ON backup_disk (image_id);

CREATE TABLE checkpoint (
    id          TEXT PRIMARY KEY,
    project_id  TEXT NOT NULL,
    vm_id       TEXT NOT NULL,
    parent_id   TEXT,
    description TEXT NOT NULL,
    state       TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX checkpoint_by_vm ON checkpoint (vm_id, created_at);

-- What changed on a disk since a checkpoint lies within the map (a file in the data directory; `map` 0: it is empty, and
-- there is no file) and the clusters that the images above `image_id` hold, on the disk's chain. So an image that is
-- named here keeps its boundary to what is above it (engine: graph.rs).
CREATE TABLE checkpoint_disk (
    checkpoint_id TEXT NOT NULL REFERENCES checkpoint (id) ON DELETE CASCADE,
    disk_id       TEXT NOT NULL,
    image_id      TEXT NOT NULL,
    size_bytes    INTEGER NOT NULL,                               -- of the disk at that moment
    map           INTEGER NOT NULL DEFAULT 0 CHECK (map IN (0, 1)),
    PRIMARY KEY (checkpoint_id, disk_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX checkpoint_disk_by_image ON checkpoint_disk (image_id);
CREATE INDEX checkpoint_disk_by_disk ON checkpoint_disk (disk_id);

-- The backup that a transfer reads from.
ALTER TABLE image_transfer ADD COLUMN backup_id TEXT;
