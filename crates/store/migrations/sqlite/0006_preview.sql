-- A VM on trial: it runs on overlays of a snapshot's images, and what it had before is kept. At most one a VM.
-- `former_id`: the snapshot of kind preview that keeps it: its disks' images, its configuration, its active snapshot's id.
CREATE TABLE preview (
    vm_id        TEXT PRIMARY KEY REFERENCES vm (id) ON DELETE CASCADE,
    snapshot_id  TEXT NOT NULL REFERENCES snapshot (id),
    former_id    TEXT NOT NULL REFERENCES snapshot (id),
    created_at   INTEGER NOT NULL
) STRICT;

-- Guests that their users have frozen. A row is there before the guest is frozen, and goes after it was thawed, so that
-- none stays frozen whatever dies. `until`: it is thawed then, whether its user comes back or not.
CREATE TABLE user_freeze (
    vm_id        TEXT PRIMARY KEY REFERENCES vm (id) ON DELETE CASCADE,
    until        INTEGER NOT NULL
) STRICT;
