-- What the file of a frozen image was when our own writing into it had ended (engine: checkpoint/seal.rs), as JSON. No row: it
-- is not known, or one of our own jobs writes into it. An image that a disk writes to has none.
CREATE TABLE image_seal (
    image_id  TEXT PRIMARY KEY REFERENCES image (id) ON DELETE CASCADE,
    facts     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
