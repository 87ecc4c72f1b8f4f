//! Snapshots of single volumes, as the volume APIs show them.

use super::{Live, VM_SNAPSHOT_KEY, find, live, shown, shown_metadata};
use crate::view::volume::{Listed, VolumeQuery, VolumeSnapshotView};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Listing, Test,
    volume_snapshot::{self, VolumeSnapshotRow},
};
use stillpoint_types::{Caller, Need, VolumeSnapshotId, VolumeSnapshotStatus};

fn view(row: VolumeSnapshotRow, live: &Live) -> VolumeSnapshotView {
    let (status, metadata) = (shown(&row, live), shown_metadata(&row));
    VolumeSnapshotView {
        id: row.id,
        volume: row.disk,
        project: row.project,
        user: row.user,
        name: row.name,
        description: row.description,
        status,
        // Nothing is told of the way: it is short.
        progress: if status == VolumeSnapshotStatus::Creating && row.status != status {
            0
        } else {
            row.progress
        },
        size_bytes: row.size_bytes,
        created_at: row.created_at,
        updated_at: row.updated_at,
        metadata,
        vm_snapshot: row.vm_snapshot,
        backup: row.backup,
    }
}

/// What the daemon says in the metadata stands in columns of its own.
fn by_columns(listing: &mut Listing) {
    let mut members = Vec::new();
    for test in &mut listing.tests {
        if let Test::Pairs(pairs) = test {
            let said = |(key, _): &(String, String)| key == VM_SNAPSHOT_KEY;
            members.extend(pairs.iter().filter(|pair| said(pair)).map(|(_, value)| value.clone()));
            pairs.retain(|pair| !said(pair));
        }
    }
    let tests = members.into_iter().map(|value| Test::In("vm_snapshot", vec![value]));
    listing.tests.extend(tests);
}

pub(crate) async fn page(
    engine: &Arc<Inner>,
    who: &Caller,
    query: VolumeQuery,
) -> Result<Listed<VolumeSnapshotView>, Fault> {
    let marker = query.marker;
    let mut listing = crate::volume::view::listing(who, query)?;
    by_columns(&mut listing);
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let absent = || Fault::not_found("snapshot", marker.unwrap_or_default());
        let live = live(conn)?;
        let pairs: Vec<_> = live.iter().map(|(id, status)| (*id, *status)).collect();
        let found = volume_snapshot::page(conn, &listing, &pairs)?.ok_or_else(absent)?;
        Ok(Listed {
            items: found.rows.into_iter().map(|row| view(row, &live)).collect(),
            count: found.count,
        })
    };
    engine.store.read(read).await
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, id: VolumeSnapshotId) -> Result<VolumeSnapshotView, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let (row, _) = find(conn, &who, id, Need::Read)?;
        Ok(view(row, &live(conn)?))
    };
    engine.store.read(read).await
}
