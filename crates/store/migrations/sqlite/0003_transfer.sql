-- Image transfers. Each has a job of the same id, which holds the lock on its disk; the row outlives the job so that a
-- client can still read how it ended. `ticket` is the secret in the transfer's URL, in clear: the URL must go on working
-- after a restart, and who can read this file can read the disks beside it.
CREATE TABLE image_transfer (
    id              TEXT PRIMARY KEY,
    project_id      TEXT NOT NULL,
    disk_id         TEXT NOT NULL,
    disk_alias      TEXT NOT NULL,
    image_id        TEXT NOT NULL,
    by_image        INTEGER NOT NULL CHECK (by_image IN (0, 1)),  -- the client named the image, not the disk
    direction       TEXT NOT NULL,
    format          TEXT NOT NULL,
    shallow         INTEGER NOT NULL CHECK (shallow IN (0, 1)),
    inactivity_s    INTEGER NOT NULL,                             -- 0: never idle for too long
    timeout_policy  TEXT NOT NULL,
    ticket          TEXT NOT NULL UNIQUE,
    size_bytes      INTEGER NOT NULL,
    phase           TEXT NOT NULL,
    reason          TEXT,                                         -- why it was paused, cancelled or failed
    transferred     INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    last_active     INTEGER NOT NULL,
    ended_at        INTEGER
) STRICT;
CREATE INDEX image_transfer_by_end ON image_transfer (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX image_transfer_live ON image_transfer (id) WHERE ended_at IS NULL;
