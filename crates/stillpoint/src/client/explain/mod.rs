//! `stillpoint explain ENTITY`: why a thing is in its state, and what would help.
//!
//! A Stillpoint has the answer at `/stillpoint/v1/explain` ([`page`] shows it): the locks, what is seen on disk and in QEMU,
//! the remedies. Of any other server of the API it is put together from what that shows everybody ([`plain`]).

mod page;
mod plain;

use super::{Session, Trouble, code, connect::id_of, find};
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainOptions {
    /// What to explain: NAME (a VM, or else a disk), vm/NAME, disk/NAME, snapshot/VM/NAME, job/ID; of a Stillpoint also
    /// backup/ID, checkpoint/ID, transfer/ID, volume_snapshot/ID. Ids do as well as names.
    #[arg(value_name = "ENTITY")]
    entity: String,
}

pub(crate) async fn run(session: &Session, options: &ExplainOptions) -> Result<ExitCode, Trouble> {
    let entity = options.entity.as_str();
    let (kind, id) = named(session, entity).await?;
    let path = format!("/stillpoint/v1/explain/{kind}/{id}");
    match session.read(|| session.connection().get_json(&path)).await {
        Ok(document) => page::shown(document).print(session),
        Err(error) if error.is_unserved() => plain::explain(session, entity).await?.print(session),
        Err(error) => Err(find::unread(error, kind, entity, &format!("stillpoint {kind} list"))),
    }
}

fn unclear(entity: &str) -> Trouble {
    Trouble::new(format!("{entity:?} does not say what it is"))
        .hint("write vm/NAME, disk/NAME, snapshot/VM/NAME or job/ID")
        .code(code::USAGE)
}

/// Kind and id of what is meant.
async fn named(session: &Session, entity: &str) -> Result<(&'static str, String), Trouble> {
    let (kind, rest) = entity.split_once('/').unwrap_or(("", entity));
    Ok(match kind {
        "vm" => ("vm", vm(session, rest).await?),
        "disk" => ("disk", id_of(&find::disk(session, rest).await?, "a disk")?),
        "snapshot" => {
            let (machine, name) = rest.split_once('/').ok_or_else(|| unclear(entity))?;
            let (_, service) = find::vm(session, machine).await?;
            let all = find::snapshots(session, &service.snapshots_service()).await?;
            ("snapshot", id_of(&find::snapshot(machine, &all, name)?, "a snapshot")?)
        }
        "" => match vm(session, entity).await {
            Ok(id) => ("vm", id),
            Err(no_vm) => match find::disk(session, entity).await {
                Ok(disk) => ("disk", id_of(&disk, "a disk")?),
                Err(_no_disk) => return Err(no_vm),
            },
        },
        kind => {
            let by_id = ["job", "backup", "checkpoint", "transfer", "volume_snapshot"];
            let kind = by_id.into_iter().find(|known| *known == kind);
            let kind = kind.ok_or_else(|| unclear(entity))?;
            // Whatever is written there must not lead to another path.
            let is_id = uuid::Uuid::parse_str(rest).is_ok();
            if !is_id {
                let list = format!("stillpoint {kind} list");
                return Err(
                    Trouble::new(format!("there is no {kind} {rest:?}, or this user may not see it"))
                        .hint(format!("what there is: {list}"))
                        .code(code::NOT_FOUND),
                );
            }
            (kind, rest.to_owned())
        }
    })
}

async fn vm(session: &Session, name: &str) -> Result<String, Trouble> {
    let (found, _) = find::vm(session, name).await?;
    id_of(&found, "a VM")
}
