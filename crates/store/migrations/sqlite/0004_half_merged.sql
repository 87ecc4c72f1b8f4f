-- Images into which a merge was begun that did not end: they hold a part of the layer above, so what they show is no moment
-- that ever was. What stands on them is right all the same. The next merge that ends takes the mark away.
CREATE TABLE half_merged (
    image_id  TEXT PRIMARY KEY REFERENCES image (id) ON DELETE CASCADE
) STRICT;
