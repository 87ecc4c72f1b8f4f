-- Snapshots of single volumes: those that the volume APIs made, and the members of VM snapshots, so that one list holds both.
-- Of a member the image stands in snapshot_disk and its row goes with that one; of the others `image_id` names it. It is
-- NULL until the work behind the row is done, and stays so if that fails.
CREATE TABLE volume_snapshot (
    id              TEXT    NOT NULL PRIMARY KEY,
    disk_id         TEXT    NOT NULL REFERENCES disk (id) ON DELETE CASCADE,
    project_id      TEXT    NOT NULL,
    user_id         TEXT,
    name            TEXT,
    description     TEXT,
    metadata        TEXT    NOT NULL DEFAULT '{}',                        -- an object of texts
    size_bytes      INTEGER NOT NULL,                                     -- of the disk at that moment
    status          TEXT    NOT NULL,                                     -- what locks say goes before 'available'
    progress        INTEGER NOT NULL,
    reason          TEXT,                                                 -- why its making or removal failed
    created_at      INTEGER NOT NULL,                                     -- different for each of one disk
    updated_at      INTEGER,
    vm_snapshot_id  TEXT,
    image_id        TEXT REFERENCES image (id),
    backup_id       TEXT,                                                 -- made for this backup
    by_volume       INTEGER NOT NULL CHECK (by_volume IN (0, 1)),         -- a client of a volume API asked for it
    CHECK (vm_snapshot_id IS NULL OR image_id IS NULL),
    FOREIGN KEY (vm_snapshot_id, disk_id) REFERENCES snapshot_disk (snapshot_id, disk_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX volume_snapshot_by_time ON volume_snapshot (created_at, id);
CREATE INDEX volume_snapshot_by_project ON volume_snapshot (project_id, created_at, id);
CREATE INDEX volume_snapshot_by_status ON volume_snapshot (project_id, status, created_at, id);
CREATE INDEX volume_snapshot_by_name ON volume_snapshot (project_id, name);
CREATE INDEX volume_snapshot_by_disk ON volume_snapshot (disk_id, created_at, id);
CREATE INDEX volume_snapshot_by_image ON volume_snapshot (image_id) WHERE image_id IS NOT NULL;
CREATE INDEX volume_snapshot_by_vm_snapshot ON volume_snapshot (vm_snapshot_id, disk_id) WHERE vm_snapshot_id IS NOT NULL;
CREATE INDEX volume_snapshot_by_backup ON volume_snapshot (backup_id) WHERE backup_id IS NOT NULL;
CREATE INDEX volume_snapshot_waiting ON volume_snapshot (disk_id) WHERE status = 'creating' AND image_id IS NULL;

-- What each project has, kept by the triggers below: nothing else writes it. GiB are rounded up for each thing; snapshots
-- of backups do not count.
CREATE TABLE project_usage (
    project_id  TEXT    NOT NULL PRIMARY KEY,
    volumes     INTEGER NOT NULL DEFAULT 0,
    snapshots   INTEGER NOT NULL DEFAULT 0,
    gigabytes   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TRIGGER usage_disk_made AFTER INSERT ON disk BEGIN
    INSERT INTO project_usage (project_id, volumes, gigabytes) VALUES (NEW.project_id, 1, (NEW.size_bytes + 1073741823) / 1073741824)
    ON CONFLICT (project_id) DO UPDATE SET volumes = volumes + 1, gigabytes = gigabytes + excluded.gigabytes;
END;
CREATE TRIGGER usage_disk_gone AFTER DELETE ON disk BEGIN
    UPDATE project_usage SET volumes = volumes - 1, gigabytes = gigabytes - (OLD.size_bytes + 1073741823) / 1073741824
    WHERE project_id = OLD.project_id;
END;
CREATE TRIGGER usage_disk_changed AFTER UPDATE OF project_id, size_bytes ON disk BEGIN
    UPDATE project_usage SET volumes = volumes - 1, gigabytes = gigabytes - (OLD.size_bytes + 1073741823) / 1073741824
    WHERE project_id = OLD.project_id;
    INSERT INTO project_usage (project_id, volumes, gigabytes) VALUES (NEW.project_id, 1, (NEW.size_bytes + 1073741823) / 1073741824)
    ON CONFLICT (project_id) DO UPDATE SET volumes = volumes + 1, gigabytes = gigabytes + excluded.gigabytes;
END;

CREATE TRIGGER usage_snapshot_made AFTER INSERT ON volume_snapshot WHEN NEW.backup_id IS NULL BEGIN
    INSERT INTO project_usage (project_id, snapshots, gigabytes) VALUES (NEW.project_id, 1, (NEW.size_bytes + 1073741823) / 1073741824)
    ON CONFLICT (project_id) DO UPDATE SET snapshots = snapshots + 1, gigabytes = gigabytes + excluded.gigabytes;
END;
CREATE TRIGGER usage_snapshot_gone AFTER DELETE ON volume_snapshot WHEN OLD.backup_id IS NULL BEGIN
    UPDATE project_usage SET snapshots = snapshots - 1, gigabytes = gigabytes - (OLD.size_bytes + 1073741823) / 1073741824
    WHERE project_id = OLD.project_id;
END;
CREATE TRIGGER usage_snapshot_left AFTER UPDATE OF project_id, size_bytes, backup_id ON volume_snapshot WHEN OLD.backup_id IS NULL BEGIN
    UPDATE project_usage SET snapshots = snapshots - 1, gigabytes = gigabytes - (OLD.size_bytes + 1073741823) / 1073741824
    WHERE project_id = OLD.project_id;
END;
CREATE TRIGGER usage_snapshot_came AFTER UPDATE OF project_id, size_bytes, backup_id ON volume_snapshot WHEN NEW.backup_id IS NULL BEGIN
    INSERT INTO project_usage (project_id, snapshots, gigabytes) VALUES (NEW.project_id, 1, (NEW.size_bytes + 1073741823) / 1073741824)
    ON CONFLICT (project_id) DO UPDATE SET snapshots = snapshots + 1, gigabytes = gigabytes + excluded.gigabytes;
END;

-- What there is already.
INSERT INTO project_usage (project_id, volumes, gigabytes)
    SELECT project_id, count(*), sum((size_bytes + 1073741823) / 1073741824) FROM disk GROUP BY project_id;
INSERT INTO volume_snapshot (id, disk_id, project_id, name, metadata, size_bytes, status, progress, created_at, vm_snapshot_id,
                             backup_id, by_volume)
    SELECT lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-'
                 || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))),
           d.disk_id, disk.project_id,
           CASE WHEN backup.id IS NULL THEN substr(snapshot.description, 1, 255)
                ELSE iif(backup.many = 1, 'autobk_snapshot_vbs_', 'autobk_snapshot_csbs_') || backup.id END,
           iif(backup.many > 1, '{"__system__enableActive":"true"}', '{}'),
           image.size_bytes, 'available', 100, snapshot.date, snapshot.id, backup.id, 0
    FROM snapshot_disk AS d
    JOIN snapshot ON snapshot.id = d.snapshot_id AND snapshot.kind = 'regular'
    JOIN disk ON disk.id = d.disk_id
    JOIN image ON image.id = d.image_id
    LEFT JOIN (SELECT id, snapshot_id, (SELECT count(*) FROM backup_disk WHERE backup_id = backup.id) AS many FROM backup
               WHERE snapshot_id IS NOT NULL) AS backup ON backup.snapshot_id = snapshot.id;
