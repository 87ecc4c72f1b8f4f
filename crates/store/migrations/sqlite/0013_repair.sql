-- What a repair has to know of what happened before it.

-- Whether an anchor came down from a branch that a restore had left. Then its map has what that branch held, and nothing else
-- tells it: a lost map cannot be made anew from the layers. Of anchors from before nothing is known, so they count as such.
ALTER TABLE checkpoint_disk ADD COLUMN moved INTEGER NOT NULL DEFAULT 1 CHECK (moved IN (0, 1));

-- A layer that nobody recorded and on which QEMU was seen to run a disk. It is there as long as the disk is illegal for it: a
-- disk that is illegal is not started, so nothing is written below the layer meanwhile.
CREATE TABLE strange_layer (
    disk_id   TEXT PRIMARY KEY REFERENCES disk (id) ON DELETE CASCADE,
    image_id  TEXT NOT NULL,                                      -- the recorded image that it stands on
    file      TEXT NOT NULL,                                      -- absolute
    seen_at   INTEGER NOT NULL
) STRICT;
