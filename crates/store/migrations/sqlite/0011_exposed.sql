-- Snapshots of disks that were attached to other VMs, to be read there: each is a disk of its own, on an overlay, that goes
-- when it is detached. `of_disk`: the disk whose snapshot it is, by which clients may name it at that VM.
CREATE TABLE exposed (
    disk_id      TEXT PRIMARY KEY REFERENCES disk (id) ON DELETE CASCADE,
    vm_id        TEXT NOT NULL REFERENCES vm (id) ON DELETE CASCADE,
    of_disk      TEXT NOT NULL,
    snapshot_id  TEXT NOT NULL,
    UNIQUE (vm_id, of_disk)
) STRICT;
