//! Why things went to `error`: what a client reads who finds his volume so.

use crate::command::Origin;
use crate::view::volume::MessageView;
use crate::{access, engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx,
    message::{self, MessageRow},
};
use stillpoint_types::{Caller, DiskId, Micros, Need, ProjectId, VolumeSnapshotId, now_micros};
use uuid::Uuid;

/// How long a message is kept, microseconds: 30 days, as Cinder does.
const KEPT: Micros = 30 * 24 * 3600 * 1_000_000;

/// What a message is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About {
    Volume(DiskId),
    Snapshot(VolumeSnapshotId),
}

/// What was being done, with Cinder's code for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Place,
    Extend,
    Create,
    Snapshot,
    Revert,
}

impl Doing {
    const ALL: &[(Self, &str)] = &[
        (Self::Place, "001"),
        (Self::Extend, "007"),
        (Self::Create, "008"),
        (Self::Snapshot, "009"),
        // Cinder has no word for it; this one is of a change of a snapshot.
        (Self::Revert, "011"),
    ];

    fn code(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(doing, _)| *doing == self)
            .map_or("001", |(_, code)| code)
    }
}

/// Cinder's codes for what happened: nothing more is known, and no storage fits.
pub(crate) const UNKNOWN: &str = "001";
pub(crate) const NO_STORAGE: &str = "003";

const KINDS: &[&str] = &["VOLUME", "VOLUME_SNAPSHOT"];
const DETAILS: &[&str] = &[UNKNOWN, NO_STORAGE];

/// Writes one.
pub(crate) fn write(
    tx: &Tx,
    project: ProjectId,
    about: About,
    doing: Doing,
    detail: &'static str,
    text: impl std::fmt::Display,
) -> Result<(), Fault> {
    let (kind, id) = match about {
        About::Volume(id) => ("VOLUME", id.0),
        About::Snapshot(id) => ("VOLUME_SNAPSHOT", id.0),
    };
    let now = now_micros();
    let row = MessageRow {
        id: Uuid::new_v4(),
        project,
        about_kind: kind.to_owned(),
        about: id,
        action: doing.code().to_owned(),
        detail: detail.to_owned(),
        text: text.to_string(),
        created_at: now,
        expires_at: now.saturating_add(KEPT),
    };
    Ok(message::insert(tx, &row)?)
}

/// One of the words that this program writes.
fn word(words: &[&'static str], text: &str) -> Result<&'static str, Fault> {
    let found = words.iter().find(|word| **word == text);
    found
        .copied()
        .ok_or_else(|| Fault::internal(format!("a message of {text}")))
}

fn view(row: MessageRow) -> Result<MessageView, Fault> {
    let actions: Vec<&'static str> = Doing::ALL.iter().map(|(_, code)| *code).collect();
    Ok(MessageView {
        id: row.id,
        about: (word(KINDS, &row.about_kind)?, row.about),
        action: word(&actions, &row.action)?,
        detail: word(DETAILS, &row.detail)?,
        text: row.text,
        created_at: row.created_at,
        expires_at: row.expires_at,
    })
}

pub(crate) async fn all(engine: &Arc<Inner>, who: &Caller, project: ProjectId) -> Result<Vec<MessageView>, Fault> {
    access::check(who, project, Need::Read, "project", &project.to_string())?;
    let read = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        let rows = message::of_project(conn, project, now_micros())?;
        rows.into_iter().map(view).collect()
    };
    engine.store.read(read).await
}

pub(crate) async fn delete(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    project: ProjectId,
    id: Uuid,
) -> Result<(), Fault> {
    access::check(who, project, Need::Operate, "message", &id.to_string())?;
    let write = move |tx: &Tx| -> Result<(), Fault> {
        if message::delete(tx, project, id)? {
            Ok(())
        } else {
            Err(Fault::not_found("message", id))
        }
    };
    engine.store.write(write).await
}
