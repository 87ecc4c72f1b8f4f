//! One disk: what it is, who has it, and its images, oldest first.

use super::{PLACE, disk_id, place, status, users};
use crate::{layout, trouble::Trouble, ui, visit::Visit};
use axum::{body::Body, extract::Path};
use http::{HeaderMap, Response};
use maud::{Markup, html};
use stillpoint_engine::view::{
    DiskSnapshotView, DiskView, SnapshotView,
    volume::{Match, Scope, VolumeQuery, VolumeSnapshotView},
};
use stillpoint_types::{Access, Need};

/// Snapshots of one volume that are looked at.
const SNAPSHOTS_MAX: u64 = 1000;

/// The page.
pub(crate) async fn show(visit: Visit, Path(id): Path<String>, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let (engine, who, id) = (visit.engine(), &visit.who, disk_id(&id)?);
    let disk = engine.disk(who, id).await?;
    let images = engine.disk_snapshots(who, id, true).await?;
    let names = super::names(&visit, std::slice::from_ref(&disk)).await?;
    let snapshots: Vec<SnapshotView> = engine
        .snapshots_of_all(who, disk.vms.clone())
        .await?
        .into_values()
        .flatten()
        .collect();
    let query = VolumeQuery {
        scope: Scope::All,
        matches: vec![Match::In("volume_id", vec![id.to_string()])],
        sort: vec![("created_at", false)],
        marker: None,
        offset: 0,
        limit: SNAPSHOTS_MAX,
        count: false,
    };
    let taken = engine.volume_snapshots(who, query).await?.items;
    let may_operate = who.may(disk.project, Need::Operate) == Access::Allowed;
    let shown = html! {
        section.card {
            p { (ui::badge(status(&disk))) " " (ui::holder(disk.holder.as_ref())) }
            @if let Some(why) = &disk.illegal { p.error { (why) } }
            dl.facts {
                dt { "Size" } dd { (ui::bytes(disk.size_bytes)) " " span.dim { "(" (disk.size_bytes) " bytes)" } }
                dt { "On disk" } dd { (ui::bytes(disk.total_bytes)) ", of which the guest writes to " (ui::bytes(disk.actual_bytes)) }
                dt { "Format" } dd { (disk.format.label()) @if disk.sparse { ", grows as it is written" } }
                dt { "Used by" } dd { (users(&disk, &names)) }
                @if !disk.description.is_empty() { dt { "Description" } dd { (disk.description) } }
                dt { "Made" } dd { (ui::moment(disk.created_at)) }
                dt { "Id" } dd { code { (disk.id) } }
            }
            p.actions {
                @if may_operate {
                    a.button href={ (place(id)) "/extend" } { "Extend" }
                    a.button.quiet href={ (place(id)) "/delete" } { "Delete" }
                }
                a href={ "/console/volumes/" (id) } { "As a volume" }
                a href={ "/console/dialects/disk/" (id) } { "In every API" }
            }
        }
        h2 { "Images" }
        (chain(&disk, &images, &snapshots, &taken))
    };
    let page = layout::page(&visit, &disk.alias, PLACE, &ui::live("disk", &shown));
    Ok(layout::unless_known(&headers, page))
}

fn chain(
    disk: &DiskView,
    images: &[DiskSnapshotView],
    snapshots: &[SnapshotView],
    taken: &[VolumeSnapshotView],
) -> Markup {
    html! {
        p.dim { "Each image holds what was written after the one before it. The guest writes to the last one." }
        div.scroll tabindex="0" role="region" aria-label="Images, oldest first" {
            table {
                thead { tr {
                    th scope="col" { "Image" } th scope="col" { "Kept for" } th.number scope="col" { "On disk" }
                    th.number scope="col" { "Size" } th scope="col" { "Format" }
                } }
                tbody {
                    @for (number, image) in images.iter().enumerate() {
                        tr {
                            th scope="row" { (number + 1) " " code.dim { (image.image) } }
                            td { (kept_for(image, snapshots, taken)) }
                            td.number { (ui::bytes(image.actual_bytes)) }
                            td.number { (ui::bytes(image.size_bytes)) }
                            td { (image.format.label()) }
                        }
                    }
                }
            }
        }
        @if disk.vms.is_empty() && images.len() > 1 && taken.is_empty() {
            p.dim { "Images that no snapshot names are kept for a copy, or for a snapshot of a virtual machine that has gone." }
        }
    }
}

fn kept_for(image: &DiskSnapshotView, snapshots: &[SnapshotView], taken: &[VolumeSnapshotView]) -> Markup {
    let named = image.snapshot.and_then(|id| snapshots.iter().find(|one| one.id == id));
    html! {
        @if image.active { span.badge.good { "active" } }
        @else if let Some(snapshot) = named {
            a href={ "/console/vms/" (snapshot.vm) "/snapshots/" (snapshot.id) } { (snapshot.description) }
            " " span.dim { "of " (snapshot.vm_name) ", " (ui::moment(snapshot.date)) }
        } @else if taken.iter().any(|one| one.vm_snapshot.is_none()) { "a snapshot of the volume, or a copy" }
        @else { "a hidden layer" }
    }
}
