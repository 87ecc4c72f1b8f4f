//! Disks as volumes.
//!
//! A status is derived by the query itself (`store/src/volume.rs`), so that it can be asked for and ordered by.

use crate::{
    access,
    engine::Inner,
    fault::Fault,
    view::volume::{Listed, Match, Scope, VolumeAttachmentView, VolumeQuery, VolumeView},
};
use std::{collections::HashMap, sync::Arc};
use stillpoint_store::{
    Conn, Listing, Test,
    vm::{self, AttachmentRow},
    volume::{self, OutsideRow, VolumeRow},
};
use stillpoint_types::{Caller, DiskId, DiskInterface, Need, ProjectId};

/// A text as these APIs show it: nothing, unless there is one or an empty one was given.
fn shown(text: &str, empty_given: bool) -> Option<String> {
    (!text.is_empty() || empty_given).then(|| text.to_owned())
}

/// The name of a block device in a guest, by its place among those of its kind: `/dev/vda`, `/dev/sdaa`.
fn device(interface: DiskInterface, mut place: u64) -> String {
    const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
    let mut letters = Vec::new();
    loop {
        let at = usize::try_from(place % 26).unwrap_or_default();
        letters.extend(LETTERS.get(at).map(|letter| char::from(*letter)));
        if place < 26 {
            break;
        }
        place = place / 26 - 1;
    }
    let kind = if interface == DiskInterface::Virtio { "vd" } else { "sd" };
    format!("/dev/{kind}{}", letters.into_iter().rev().collect::<String>())
}

fn of_ours(row: &AttachmentRow, place: u64) -> VolumeAttachmentView {
    VolumeAttachmentView {
        id: row.disk.0,
        server: Some(row.vm),
        host: None,
        device: device(row.interface, place),
        attached_at: None,
        read_only: row.read_only,
    }
}

fn of_others(row: OutsideRow) -> VolumeAttachmentView {
    VolumeAttachmentView {
        id: row.id,
        server: row.server,
        host: row.host,
        device: row.device,
        attached_at: Some(row.attached_at),
        read_only: row.read_only,
    }
}

/// The views of these volumes, in the same number of questions however many they are.
pub(crate) fn views(conn: &Conn, rows: Vec<VolumeRow>) -> Result<Vec<VolumeView>, Fault> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<DiskId> = rows.iter().map(|row| row.disk.id).collect();
    let mut attachments: HashMap<DiskId, Vec<VolumeAttachmentView>> = HashMap::new();
    let places = volume::device_places(conn, &ids)?;
    for row in vm::attachments_of_disks(conn, &ids)? {
        let place = places.iter().find(|(disk, vm, _)| (*disk, *vm) == (row.disk, row.vm));
        let view = of_ours(&row, place.map_or(0, |(_, _, place)| *place));
        attachments.entry(row.disk).or_default().push(view);
    }
    for row in volume::outside(conn, &ids)? {
        attachments.entry(row.disk).or_default().push(of_others(row));
    }
    let one = |row: VolumeRow| VolumeView {
        id: row.disk.id,
        project: row.disk.project,
        user: row.user,
        name: shown(&row.disk.alias, row.empty_name),
        description: shown(&row.disk.description, row.empty_description),
        size_bytes: row.disk.size_bytes,
        status: row.status,
        created_at: row.disk.created_at,
        updated_at: row.updated_at,
        of_type: row.of_type,
        from_snapshot: row.from_snapshot,
        from_volume: row.from_volume,
        metadata: row.metadata,
        bootable: row.bootable,
        read_only: row.read_only,
        attachments: attachments.remove(&row.disk.id).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(one).collect())
}

/// The projects of a list: those that the caller may see of those that he asks for.
fn projects(who: &Caller, scope: Scope) -> Result<Option<Vec<ProjectId>>, Fault> {
    match scope {
        Scope::All => Ok(who.visible_projects()),
        Scope::Project(project) => {
            access::check(who, project, Need::Read, "project", &project.to_string())?;
            Ok(Some(vec![project]))
        }
    }
}

fn test(of: Match) -> Test {
    match of {
        Match::In(field, values) => Test::In(field, values),
        Match::Like(field, text) => Test::Like(field, text),
        Match::Compare(field, sign, number) => Test::Compare(field, sign, number),
        Match::Metadata(pairs) => Test::Pairs(pairs.into_iter().collect()),
        Match::Nothing => Test::Nothing,
    }
}

/// A client's question as the store takes it.
pub(crate) fn listing(who: &Caller, query: VolumeQuery) -> Result<Listing, Fault> {
    Ok(Listing {
        projects: projects(who, query.scope)?,
        tests: query.matches.into_iter().map(test).collect(),
        sort: query.sort,
        marker: query.marker.map(|id| id.to_string()),
        offset: query.offset,
        limit: query.limit,
        count: query.count,
    })
}

pub(crate) async fn page(engine: &Arc<Inner>, who: &Caller, query: VolumeQuery) -> Result<Listed<VolumeView>, Fault> {
    let marker = query.marker;
    let listing = listing(who, query)?;
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let absent = || Fault::not_found("volume", marker.unwrap_or_default());
        let found = volume::page(conn, &listing)?.ok_or_else(absent)?;
        Ok(Listed {
            items: views(conn, found.rows)?,
            count: found.count,
        })
    };
    engine.store.read(read).await
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, id: DiskId) -> Result<VolumeView, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| crate::disk::view::one(views(conn, vec![super::find(conn, &who, id, Need::Read)?])?);
    engine.store.read(read).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_as_guests_name_it() {
        let names = [
            (0, "/dev/vda"),
            (1, "/dev/vdb"),
            (25, "/dev/vdz"),
            (26, "/dev/vdaa"),
            (701, "/dev/vdzz"),
        ];
        for (place, name) in names {
            assert_eq!(device(DiskInterface::Virtio, place), name);
        }
        assert_eq!(device(DiskInterface::Sata, 2), "/dev/sdc");
    }

    #[test]
    fn no_name_and_an_empty_name_are_kept_apart() {
        assert_eq!(shown("", false), None);
        assert_eq!(shown("", true), Some(String::new()));
        assert_eq!(shown("a", false), Some("a".to_owned()));
    }
}
