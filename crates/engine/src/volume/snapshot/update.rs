//! Changes a snapshot's names, metadata and stated status.

use super::{VM_SNAPSHOT_KEY, expect_unprotected, find, shown_metadata};
use crate::command::{
    Origin,
    volume::{Metadata, MetadataChange, ResetVolumeSnapshot, UpdateVolumeSnapshot},
};
use crate::{engine::Inner, fault::Fault, limits};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    volume_snapshot::{self, Texts, VolumeSnapshotRow},
};
use stillpoint_types::{Caller, FaultCode, Need, VolumeSnapshotId, VolumeSnapshotStatus, now_micros};

/// Checks what a client calls a snapshot.
pub(crate) fn check(name: Option<&str>, description: Option<&str>, metadata: &Metadata) -> Result<(), Fault> {
    let given = [("name", name), ("description", description)];
    for (what, text) in given {
        text.map_or(Ok(()), |text| limits::text(what, text, limits::NAME_MAX))?;
    }
    for (key, value) in metadata {
        limits::text("metadata key", key, limits::NAME_MAX)?;
        limits::text("metadata value", value, limits::NAME_MAX)?;
        if key.is_empty() {
            return Err(Fault::new(FaultCode::InvalidValue, "A metadata key must not be empty."));
        }
    }
    Ok(())
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    command: UpdateVolumeSnapshot,
) -> Result<(), Fault> {
    let flat = |given: &Option<Option<String>>| given.clone().flatten();
    let (name, description) = (flat(&command.name), flat(&command.description));
    check(name.as_deref(), description.as_deref(), &Metadata::new())?;
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let (row, _) = find(tx, &who, command.snapshot, Need::Operate)?;
        expect_unprotected(&row, "change the snapshot")?;
        let texts = Texts {
            name: command.name.unwrap_or(row.name),
            description: command.description.unwrap_or(row.description),
            metadata: row.metadata,
        };
        Ok(volume_snapshot::set_texts(tx, row.id, &texts, now_micros())?)
    };
    engine.store.write(write).await
}

/// What metadata becomes. `ours`: what the daemon says in it, which nobody changes.
fn changed(mut metadata: Metadata, ours: &Metadata, change: MetadataChange) -> Result<Metadata, Fault> {
    let expect_ours_kept = |key: &String, value: Option<&String>| match ours.get(key) {
        Some(said) if value != Some(said) => {
            let text = format!("The metadata key {key} is the daemon's: users may look at it only.");
            Err(Fault::new(FaultCode::Protected, text))
        }
        _ => Ok(()),
    };
    match change {
        MetadataChange::Remove(key) => {
            expect_ours_kept(&key, None)?;
            let absent = || Fault::not_found("metadata", &key);
            metadata.remove(&key).ok_or_else(absent)?;
        }
        MetadataChange::Merge(given) => {
            for (key, value) in given {
                expect_ours_kept(&key, Some(&value))?;
                metadata.insert(key, value);
            }
        }
        MetadataChange::Replace(given) => {
            given
                .iter()
                .try_for_each(|(key, value)| expect_ours_kept(key, Some(value)))?;
            metadata = given;
        }
    }
    metadata.retain(|key, _| !ours.contains_key(key));
    Ok(metadata)
}

pub(crate) async fn metadata(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    snapshot: VolumeSnapshotId,
    change: MetadataChange,
) -> Result<Metadata, Fault> {
    if let MetadataChange::Merge(given) | MetadataChange::Replace(given) = &change {
        check(None, None, given)?;
    }
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<Metadata, Fault> {
        let (mut row, _) = find(tx, &who, snapshot, Need::Operate)?;
        expect_unprotected(&row, "change the snapshot's metadata")?;
        let mut ours = shown_metadata(&row);
        ours.retain(|key, _| key == VM_SNAPSHOT_KEY && row.vm_snapshot.is_some());
        row.metadata = changed(row.metadata, &ours, change)?;
        let texts = Texts {
            name: row.name.clone(),
            description: row.description.clone(),
            metadata: row.metadata.clone(),
        };
        volume_snapshot::set_texts(tx, row.id, &texts, now_micros())?;
        Ok(shown_metadata(&row))
    };
    engine.store.write(write).await
}

pub(crate) async fn reset(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    command: ResetVolumeSnapshot,
) -> Result<(), Fault> {
    let caller = who.clone();
    restate(engine, who, command, move |_tx, row, _status| {
        crate::volume::expect_admin(&caller, Some(row.project), "say what a snapshot's status is")
    })
    .await
}

/// From which status the makers of a snapshot may bring it to which, if they are not ours.
const fn may_follow(from: VolumeSnapshotStatus, to: VolumeSnapshotStatus) -> bool {
    use VolumeSnapshotStatus::{Available, Creating, Deleting, Error, ErrorDeleting};
    matches!(
        (from, to),
        (Creating, Creating | Available | Error) | (Deleting, Deleting | ErrorDeleting)
    )
}

/// What a maker of snapshots outside says of one (Cinder's `os-update_snapshot_status`); our own makers are not spoken for.
pub(crate) async fn report(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    command: ResetVolumeSnapshot,
) -> Result<(), Fault> {
    restate(engine, who, command, move |tx, row, status| {
        expect_unprotected(row, "say what the snapshot's status is")?;
        let is_ours = status != row.status || volume_snapshot::image_of(tx, row)?.is_none();
        if is_ours || !may_follow(status, command.status) {
            let text = format!(
                "Invalid snapshot: snapshot {} is {status} and does not become {} so.",
                row.id, command.status
            );
            return Err(Fault::new(FaultCode::VolumeStatus, text));
        }
        Ok(())
    })
    .await
}

/// Writes the status that somebody says, if `allowed`, which is given the row and the status that is shown.
async fn restate(
    engine: &Arc<Inner>,
    who: &Caller,
    command: ResetVolumeSnapshot,
    allowed: impl FnOnce(&Tx, &VolumeSnapshotRow, VolumeSnapshotStatus) -> Result<(), Fault> + Send + 'static,
) -> Result<(), Fault> {
    if let Some(progress) = command.progress {
        limits::range("progress", progress.into(), 0, 100)?;
    }
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let (row, status) = find(tx, &who, command.snapshot, Need::Operate)?;
        allowed(tx, &row, status)?;
        let (said, progress) = (command.status, command.progress);
        Ok(volume_snapshot::set_status(tx, row.id, said, progress, now_micros())?)
    };
    engine.store.write(write).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(given: &[(&str, &str)]) -> Metadata {
        given
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn metadata_changes_as_asked_and_the_daemons_own_stays() {
        let (had, ours) = (pairs(&[("a", "1"), ("b", "2")]), pairs(&[("ours", "x")]));
        let change = |change| changed(had.clone(), &ours, change);
        assert_eq!(
            change(MetadataChange::Merge(pairs(&[("b", "3"), ("ours", "x")]))).unwrap(),
            pairs(&[("a", "1"), ("b", "3")])
        );
        assert_eq!(
            change(MetadataChange::Replace(pairs(&[("c", "4")]))).unwrap(),
            pairs(&[("c", "4")])
        );
        assert_eq!(
            change(MetadataChange::Remove("a".into())).unwrap(),
            pairs(&[("b", "2")])
        );
        assert_eq!(
            change(MetadataChange::Remove("z".into())).unwrap_err().code,
            FaultCode::NotFound
        );
        let refused = [
            MetadataChange::Remove("ours".into()),
            MetadataChange::Merge(pairs(&[("ours", "y")])),
            MetadataChange::Replace(pairs(&[("ours", "y")])),
        ];
        for refused in refused {
            assert_eq!(change(refused).unwrap_err().code, FaultCode::Protected);
        }
    }
}
