//! Storage: how much is free, used and promised, and what uses it.

use crate::{layout, list, trouble::Trouble, ui, visit::Visit};
use axum::body::Body;
use http::{HeaderMap, Response};
use maud::{Markup, html};
use stillpoint_engine::view::{DiskSnapshotView, DiskView, DomainView, Filter, Page, UnregisteredView};
use stillpoint_types::FaultCode;

const PLACE: &str = "/console/storage";
/// The largest that are shown of each kind.
const LARGEST: usize = 10;
/// Disks and images that are looked at, for the largest of them.
const LOOKED_AT: usize = 5000;

/// What was found in one domain.
struct Found {
    domain: DomainView,
    disks: Vec<DiskView>,
    images: Vec<DiskSnapshotView>,
    /// `None`: they are not for the visitor.
    orphans: Option<Vec<UnregisteredView>>,
}

/// The storage domains.
pub(crate) async fn show(visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let mut found = Vec::new();
    for domain in visit.engine().domains(&visit.who).await? {
        found.push(look(&visit, domain).await?);
    }
    let shown = html! {
        @for one in &found {
            section {
                h2 { "Domain " (one.domain.name) }
                (numbers(&one.domain))
                div.grid { (disks(one)) (layers(one)) }
                (orphans(one))
            }
        }
    };
    let page = layout::page(&visit, "Storage", PLACE, &ui::live("storage", &shown));
    Ok(layout::unless_known(&headers, page))
}

async fn look(visit: &Visit, domain: DomainView) -> Result<Found, Trouble> {
    let (engine, who) = (visit.engine(), &visit.who);
    let page = Page {
        limit: LOOKED_AT,
        ..Page::default()
    };
    let filter = Filter {
        find: list::equals("domain_id", &domain.id.to_string()),
        sort: None,
    };
    let mut disks = engine.disks(who, &filter, &page).await?.items;
    disks.sort_by_key(|disk| std::cmp::Reverse(disk.total_bytes));
    let mut images = engine.domain_disk_snapshots(who, domain.id, false, &page).await?;
    images.sort_by_key(|image| std::cmp::Reverse(image.actual_bytes));
    let orphans = match engine.unregistered(who, domain.id).await {
        Ok(orphans) => Some(orphans),
        Err(fault) if matches!(fault.code, FaultCode::Forbidden | FaultCode::NotFound) => None,
        Err(fault) => return Err(fault.into()),
    };
    Ok(Found {
        domain,
        disks,
        images,
        orphans,
    })
}

fn numbers(domain: &DomainView) -> Markup {
    let whole = domain.available_bytes.saturating_add(domain.used_bytes);
    let percent = domain
        .used_bytes
        .saturating_mul(100)
        .checked_div(whole)
        .unwrap_or_default();
    html! {
        section.card {
            p {
                label for={ "used-" (domain.id) } { (percent) "% used" }
                meter id={ "used-" (domain.id) } min="0" max="100" low="75" high="90" optimum="0" value=(percent) { (percent) "%" }
            }
            dl.facts {
                dt { "Free" } dd { (ui::bytes(domain.available_bytes)) }
                dt { "Used" } dd { (ui::bytes(domain.used_bytes)) }
                dt { "Promised to disks" } dd {
                    (ui::bytes(domain.committed_bytes))
                    @if domain.committed_bytes > whole {
                        " " span.badge.busy { "more than there is" }
                        span.hint { " Disks grow as they are written: watch the free space." }
                    }
                }
                dt { "Directory" } dd { code { (domain.path) } }
            }
        }
    }
}

fn disks(found: &Found) -> Markup {
    html! {
        section.card {
            h2 { "Largest disks" }
            @if found.disks.is_empty() { p.dim { "No disk in your projects." } } @else {
                table {
                    thead { tr { th scope="col" { "Disk" } th.number scope="col" { "On disk" } th.number scope="col" { "Size" } } }
                    tbody { @for disk in found.disks.iter().take(LARGEST) { tr {
                        th scope="row" { a href={ "/console/disks/" (disk.id) } { (disk.alias) } }
                        td.number { (ui::bytes(disk.total_bytes)) }
                        td.number { (ui::bytes(disk.size_bytes)) }
                    } } }
                }
                @if found.disks.len() > LARGEST { p { a href="/console/disks" { "All " (found.disks.len()) " disks" } } }
            }
        }
    }
}

fn layers(found: &Found) -> Markup {
    let (kept, hidden): (Vec<_>, Vec<_>) = found.images.iter().partition(|image| image.snapshot.is_some());
    let sum = |images: &[&DiskSnapshotView]| ui::bytes(images.iter().map(|image| image.actual_bytes).sum());
    html! {
        section.card {
            h2 { "What snapshots keep" }
            p {
                (kept.len()) " layers of snapshots: " strong { (sum(&kept)) } "; "
                (hidden.len()) " hidden layers, which no snapshot of a VM names: " strong { (sum(&hidden)) } "."
            }
            @if !found.images.is_empty() {
                table {
                    thead { tr { th scope="col" { "Layer of" } th.number scope="col" { "On disk" } th scope="col" { "Kept by" } } }
                    tbody { @for image in found.images.iter().take(LARGEST) { tr {
                        th scope="row" { a href={ "/console/disks/" (image.disk) } { (image.alias) } }
                        td.number { (ui::bytes(image.actual_bytes)) }
                        td { @if image.snapshot.is_some() { "a snapshot" } @else { "a volume snapshot or a copy" } }
                    } } }
                }
            }
        }
    }
}

fn orphans(found: &Found) -> Markup {
    html! {
        @if let Some(orphans) = &found.orphans {
            section.card {
                h2 { "Files that belong to no disk" }
                @if orphans.is_empty() { p.dim { "None." } } @else {
                    div.scroll tabindex="0" role="region" aria-label="Files that belong to no disk" {
                        table {
                            thead { tr { th scope="col" { "File" } th.number scope="col" { "On disk" } th scope="col" { "What to do" } } }
                            tbody { @for orphan in orphans { tr {
                                th scope="row" { code { (orphan.image) "." (if orphan.format == stillpoint_types::ImageFormat::Raw { "raw" } else { "qcow2" }) } }
                                td.number { (ui::bytes(orphan.actual_bytes)) }
                                td.text {
                                    @match &orphan.refused {
                                        Some(why) => (why),
                                        None => "It can be registered as a disk (stillpoint disk adopt), or removed by hand.",
                                    }
                                }
                            } } }
                        }
                    }
                }
            }
        }
    }
}
