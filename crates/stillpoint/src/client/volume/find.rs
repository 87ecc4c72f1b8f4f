//! From a name to the volume or the snapshot that is meant.

use crate::client::{
    Trouble,
    cloud::Talk,
    find::{is_id, nothing, only, unread},
    shown::instant,
};
use stillpoint_sdk::{
    Error,
    volume::{Snapshot, Volume},
};

const LIST: &str = "stillpoint volume list";

/// A volume of the project.
pub(super) async fn volume(talk: &Talk, wanted: &str) -> Result<Volume, Trouble> {
    if is_id(wanted) {
        let read = talk.read(|| talk.cloud.volume(wanted)).await;
        return read.map_err(|error| unread(error, "volume", wanted, LIST));
    }
    let mut found = talk.read(|| talk.cloud.volumes(Some(wanted))).await?;
    found.retain(|volume| volume.name.as_deref() == Some(wanted));
    if found.is_empty() {
        let all = talk.read(|| talk.cloud.volumes(None)).await.unwrap_or_default();
        let names = all.iter().filter_map(|volume| volume.name.as_deref());
        return Err(nothing("volume", wanted, names, LIST));
    }
    let tell = |volume: &Volume| {
        (
            volume.id.clone(),
            format!("{}, {}", super::gib(volume.size), volume.status),
        )
    };
    only("volume", wanted, found, tell)
}

/// The snapshots of a volume, or of all of the project, oldest first.
pub(super) async fn snapshots(talk: &Talk, volume: Option<&str>) -> Result<Vec<Snapshot>, Trouble> {
    let mut all = talk.read(|| talk.cloud.snapshots(volume)).await?;
    all.sort_by(|a, b| a.created_at.cmp(&b.created_at));
    Ok(all)
}

/// A snapshot: of that volume, or of any one of the project.
pub(super) async fn snapshot(talk: &Talk, of: Option<&Volume>, wanted: &str) -> Result<Snapshot, Trouble> {
    let name = of.map(|volume| volume.name.as_deref().unwrap_or(&volume.id).to_owned());
    let list = format!("stillpoint volume snapshot list {}", name.unwrap_or_default());
    let volume = of.map(|volume| volume.id.as_str());
    let is_its = |snapshot: &Snapshot| volume.is_none_or(|volume| snapshot.volume_id == volume);
    if is_id(wanted) {
        return match talk.read(|| talk.cloud.snapshot(wanted)).await {
            Ok(found) if is_its(&found) => Ok(found),
            Ok(_) | Err(Error::NotFound(_)) => Err(nothing("snapshot", wanted, [], list.trim_end())),
            Err(error) => Err(error.into()),
        };
    }
    let all = snapshots(talk, volume).await?;
    let is_named = |one: &&Snapshot| one.name.as_deref() == Some(wanted);
    let found: Vec<_> = all.iter().filter(is_named).cloned().collect();
    if found.is_empty() {
        let names = all.iter().filter_map(|one| one.name.as_deref());
        return Err(nothing("snapshot", wanted, names, list.trim_end()));
    }
    let tell = |one: &Snapshot| {
        let at = instant(one.created_at.as_deref());
        (one.id.clone(), format!("of volume {}, {at}", one.volume_id))
    };
    only("snapshot", wanted, found, tell)
}
