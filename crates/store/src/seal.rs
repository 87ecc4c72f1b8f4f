//! Seals: what the file of a frozen image was when our own writing into it had ended.
//!
//! An image's seal goes with [`crate::image::merged`] and [`crate::disk::set_image`], too: whoever merged, or will write.
//!
//! Crash consistency: a seal goes before one of our own jobs writes into the image, and comes back in the transaction that
//! ends that writing. So a seal that is there can be believed, and one that is not there says nothing.

use crate::{Conn, Stored, Tx};
use rusqlite::{OptionalExtension, params};
use stillpoint_types::ImageId;

/// What was recorded of an image's file.
pub fn get(conn: &Conn, image: ImageId) -> Stored<Option<String>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT facts FROM image_seal WHERE image_id = ?1")?
        .query_row([image.to_string()], |row| row.get(0))
        .optional()?)
}

/// Records it, in place of what may have been recorded; unless a disk writes to the image.
pub fn put(tx: &Tx, image: ImageId, facts: &str) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT OR REPLACE INTO image_seal (image_id, facts) SELECT id, ?2 FROM image
             WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM disk WHERE disk.image_id = ?1)",
        )?
        .execute(params![image.to_string(), facts])?;
    Ok(())
}

/// Takes it away: somebody of ours is about to write into the image.
pub fn delete(tx: &Tx, image: ImageId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM image_seal WHERE image_id = ?1")?
        .execute([image.to_string()])?;
    Ok(())
}
