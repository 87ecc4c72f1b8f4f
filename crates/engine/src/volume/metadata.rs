//! Changes a volume's metadata.

use crate::command::{
    Origin,
    volume::{Metadata, MetadataChange},
};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_store::{Conn, Tx, disk, volume};
use stillpoint_types::{Caller, DiskId, FaultCode, Need};

/// Characters of a key or a value (Cinder's limit).
const TEXT_MAX: usize = 255;
/// Pairs of one thing: far more than any client hangs on one, and what a list can carry.
const PAIRS_MAX: usize = 1000;

/// Checks what a client wants to hang on something.
pub(crate) fn expect_pairs(pairs: &Metadata) -> Result<(), Fault> {
    if pairs.len() > PAIRS_MAX {
        let text = format!("There are {} metadata; at most {PAIRS_MAX} are allowed.", pairs.len());
        return Err(Fault::new(FaultCode::OutOfRange, text));
    }
    for (key, value) in pairs {
        if key.is_empty() {
            return Err(Fault::new(FaultCode::InvalidValue, "A metadata key must not be empty."));
        }
        if key.chars().count() > TEXT_MAX || value.chars().count() > TEXT_MAX {
            let shown: String = key.chars().take(32).collect();
            let text = format!("Key and value of metadata {shown:?} may have at most {TEXT_MAX} characters each.");
            return Err(Fault::new(FaultCode::TooLong, text));
        }
    }
    Ok(())
}

/// All that hangs on a volume.
fn all(conn: &Conn, id: DiskId) -> Result<Metadata, Fault> {
    let rows = volume::metadata(conn, &[id])?;
    Ok(rows.into_iter().map(|(_, key, value)| (key, value)).collect())
}

pub(crate) async fn change(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    id: DiskId,
    change: MetadataChange,
) -> Result<Metadata, Fault> {
    if let MetadataChange::Merge(pairs) | MetadataChange::Replace(pairs) = &change {
        expect_pairs(pairs)?;
    }
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<Metadata, Fault> {
        super::find(tx, &who, id, Need::Operate)?;
        match change {
            MetadataChange::Merge(pairs) => volume::put_metadata(tx, id, &pairs)?,
            MetadataChange::Replace(pairs) => {
                volume::clear_metadata(tx, id)?;
                volume::put_metadata(tx, id, &pairs)?;
            }
            MetadataChange::Remove(key) => {
                if !volume::remove_metadata(tx, id, &key)? {
                    return Err(Fault::not_found("metadata", key));
                }
            }
        }
        disk::touch(tx, id)?;
        let now = all(tx, id)?;
        expect_pairs(&now)?;
        Ok(now)
    };
    engine.store.write(write).await
}
