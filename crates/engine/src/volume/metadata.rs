//! Changes a volume's metadata.

use crate::command::{
    Origin,
    volume::{Metadata, MetadataChange},
};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_store::{Tx, volume};
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

pub(crate) async fn change(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    id: DiskId,
    change: MetadataChange,
) -> Result<Metadata, Fault> {
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<Metadata, Fault> {
        let mut now = super::find(tx, &who, id, Need::Operate)?.metadata;
        match change {
            MetadataChange::Merge(pairs) => now.extend(pairs),
            MetadataChange::Replace(pairs) => now = pairs,
            MetadataChange::Remove(key) => {
                now.remove(&key).ok_or_else(|| Fault::not_found("metadata", key))?;
            }
        }
        expect_pairs(&now)?;
        volume::set_metadata(tx, id, &now)?;
        Ok(now)
    };
    engine.store.write(write).await
}
