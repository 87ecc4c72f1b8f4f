//! Volumes offered to other projects (Cinder calls this a transfer): whoever has the key takes one over. Only whose it is
//! changes; nothing is moved.
//!
//! The key is shown once, to who offers; the catalogue has its SHA-256.

use super::{gib, quota, wrong_status};
use crate::command::{
    Origin,
    volume::{AcceptVolume, OfferVolume},
};
use crate::view::volume::{OfferView, Offered, Usage};
use crate::{
    access,
    disk::delete,
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::Actor,
    limits,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Listing, Test, Tx, disk,
    offer::{self, OfferRow},
    volume, volume_snapshot,
};
use stillpoint_types::{Caller, DiskId, FaultCode, Need, ProjectId, VolumeStatus, now_micros};
use uuid::Uuid;

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn view(row: OfferRow) -> OfferView {
    OfferView {
        id: row.id,
        volume: row.disk,
        project: row.project,
        name: row.name,
        no_snapshots: row.no_snapshots,
        created_at: row.created_at,
    }
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    command: OfferVolume,
) -> Result<Offered, Fault> {
    limits::text("name", command.name.as_deref().unwrap_or_default(), limits::NAME_MAX)?;
    let who = who.clone();
    engine.store.write(move |tx| plan(tx, &who, command)).await
}

fn plan(tx: &Tx, who: &Caller, command: OfferVolume) -> Result<Offered, Fault> {
    let found = super::find(tx, who, command.volume, Need::Operate)?;
    let id = found.disk.id;
    if found.status != VolumeStatus::Available || found.attached {
        return Err(wrong_status(&found, "offering it", "available"));
    }
    if command.no_snapshots && volume_snapshot::count_of_disk(tx, id)? > 0 {
        let text = format!("Invalid volume: volume {id} has snapshots, which would stay behind: remove them first.");
        return Err(Fault::new(FaultCode::HasDependants, text));
    }
    // What a VM's snapshot holds of it belongs to the VM's project.
    delete::expect_in_no_snapshot(tx, &found.disk).map_err(|fault| Fault::new(FaultCode::HasDependants, fault.text))?;
    crate::backup::expect_none_of_disk(tx, id, "offer the volume").map_err(super::snapshot::create::refused)?;
    // 122 random bits, which nobody guesses.
    let key = Uuid::new_v4().simple().to_string();
    let row = OfferRow {
        id: Uuid::new_v4(),
        disk: id,
        project: found.disk.project,
        name: command.name,
        key_hash: hash(&key),
        no_snapshots: command.no_snapshots,
        created_at: now_micros(),
    };
    offer::insert(tx, &row).map_err(|error| match error {
        taken if taken.is_duplicate() => {
            let text = format!("Invalid volume: volume {id} is offered already.");
            Fault::new(FaultCode::VolumeStatus, text)
        }
        other => other.into(),
    })?;
    volume::set_stated(tx, id, Some(VolumeStatus::AwaitingTransfer))?;
    Ok(Offered { offer: view(row), key })
}

fn absent(id: Uuid) -> Fault {
    Fault::not_found("transfer", id)
}

fn find(conn: &Conn, who: &Caller, id: Uuid, need: Need) -> Result<OfferRow, Fault> {
    let row = offer::get(conn, id)?.ok_or_else(|| absent(id))?;
    access::check(who, row.project, need, "transfer", &id.to_string())?;
    Ok(row)
}

pub(crate) async fn accept(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: AcceptVolume,
) -> Result<OfferView, Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    engine.store.write(move |tx| take(tx, &who, &actor, &command)).await
}

fn take(tx: &Tx, who: &Caller, actor: &Actor, command: &AcceptVolume) -> Result<OfferView, Fault> {
    let project = command.project;
    access::check(who, project, Need::Operate, "project", &project.to_string())?;
    let row = offer::get(tx, command.offer)?.ok_or_else(|| absent(command.offer))?;
    if row.key_hash != hash(&command.key) {
        let text = format!("Invalid auth key: it does not accept transfer {}.", row.id);
        return Err(Fault::new(FaultCode::InvalidValue, text));
    }
    let found = volume::get(tx, row.disk)?.ok_or_else(|| absent(row.id))?;
    if found.status != VolumeStatus::AwaitingTransfer || found.disk.project != row.project {
        return Err(wrong_status(&found, "taking it over", "awaiting-transfer"));
    }
    let (snapshots, gigabytes) = snapshots_of(tx, row.disk)?;
    let more = Usage {
        volumes: 1,
        snapshots,
        gigabytes: gigabytes + gib(found.disk.size_bytes),
        ..Usage::default()
    };
    quota::expect_size(tx, project, gib(found.disk.size_bytes))?;
    quota::expect_room(tx, project, more)?;
    disk::set_project(tx, row.disk, project)?;
    volume::set_user(tx, row.disk, who.user)?;
    volume_snapshot::set_project_of_disk(tx, row.disk, project)?;
    volume::set_stated(tx, row.disk, None)?;
    offer::delete(tx, row.id)?;
    let called = super::called(&found.disk);
    let text = format!(
        "Disk {called} was taken over from project {} by {}.",
        row.project, actor.name
    );
    Event::new(What::DiskUpdated, text)
        .by(actor)
        .disk(project, row.disk, &called)
        .write(tx)?;
    Ok(view(row))
}

/// How many snapshots go with a volume, and their GiB.
fn snapshots_of(tx: &Tx, id: DiskId) -> Result<(u64, u64), Fault> {
    let all = Listing {
        tests: vec![Test::In("volume_id", vec![id.to_string()])],
        limit: u64::MAX,
        ..Listing::default()
    };
    let found = volume_snapshot::page(tx, &all, &[])?.map(|found| found.rows);
    let counted = found.unwrap_or_default().into_iter().filter(|row| row.backup.is_none());
    Ok(counted.fold((0, 0), |(many, gigabytes), row| {
        (many + 1, gigabytes + gib(row.size_bytes))
    }))
}

pub(crate) async fn withdraw(engine: &Arc<Inner>, who: &Caller, _origin: &Origin, id: Uuid) -> Result<(), Fault> {
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let row = find(tx, &who, id, Need::Operate)?;
        let found = volume::get(tx, row.disk)?.ok_or_else(|| absent(id))?;
        if found.stated == Some(VolumeStatus::AwaitingTransfer) {
            volume::set_stated(tx, row.disk, None)?;
        }
        Ok(offer::delete(tx, id)?)
    };
    engine.store.write(write).await
}

pub(crate) async fn all(engine: &Arc<Inner>, who: &Caller, project: ProjectId) -> Result<Vec<OfferView>, Fault> {
    access::check(who, project, Need::Read, "project", &project.to_string())?;
    let read = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        Ok(offer::of_project(conn, project)?.into_iter().map(view).collect())
    };
    engine.store.read(read).await
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, id: Uuid) -> Result<OfferView, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| find(conn, &who, id, Need::Read).map(view);
    engine.store.read(read).await
}
