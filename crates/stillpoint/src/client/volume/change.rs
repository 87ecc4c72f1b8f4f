//! Making, extending, reverting and deleting volumes.

use super::{Create, Delete, Extend, Revert, find, gib, show};
use crate::client::{
    Trouble,
    cloud::Talk,
    code,
    plan::Plan,
    shown::{instant, or_dash},
    vm::gone,
};
use std::process::ExitCode;
use stillpoint_sdk::volume::NewVolume;

/// The command that shows a volume.
fn look(volume: &str) -> String {
    format!("stillpoint volume show {volume}")
}

pub(super) async fn create(talk: &Talk, options: &Create) -> Result<ExitCode, Trouble> {
    let mut wanted = NewVolume {
        name: options.name.clone(),
        size: options.size,
        description: options.description.clone(),
        volume_type: options.kind.clone(),
        ..NewVolume::default()
    };
    if let Some(snapshot) = &options.snapshot {
        wanted.snapshot_id = Some(find::snapshot(talk, None, snapshot).await?.id);
    }
    if let Some(volume) = &options.volume {
        wanted.source_volid = Some(find::volume(talk, volume).await?.id);
    }
    let failure = format!("the volume {:?} was not made", options.name);
    let made = talk
        .change(&failure, "stillpoint volume list", |cloud| async move {
            cloud.create_volume(&wanted).await
        })
        .await?;
    let what = format!("volume {} is being made", options.name);
    let end = async |limit| talk.cloud.settled_volume(&made.id, limit).await;
    talk.wait(&what, &look(&made.id), &options.waiting, end).await?;
    show(talk, &made.id).await?.print(&talk.session)
}

pub(super) async fn extend(talk: &Talk, options: &Extend) -> Result<ExitCode, Trouble> {
    let volume = find::volume(talk, &options.volume).await?;
    if options.size <= volume.size {
        let text = format!(
            "the volume {:?} has {} already, and volumes are not made smaller",
            options.volume,
            gib(volume.size)
        );
        return Err(Trouble::new(text).hint("give --size a larger one").code(code::USAGE));
    }
    let (id, size, look) = (volume.id.clone(), options.size, look(&options.volume));
    let failure = format!("the volume {:?} was not extended", options.volume);
    talk.change(
        &failure,
        &look,
        |cloud| async move { cloud.extend_volume(&id, size).await },
    )
    .await?;
    let what = format!("volume {} is being extended to {}", options.volume, gib(size));
    let end = async |limit| talk.cloud.settled_volume(&volume.id, limit).await;
    talk.wait(&what, &look, &options.waiting, end).await?;
    show(talk, &volume.id).await?.print(&talk.session)
}

pub(super) async fn revert(talk: &Talk, options: &Revert) -> Result<ExitCode, Trouble> {
    let (name, wanted) = (&options.volume, &options.snapshot);
    let volume = find::volume(talk, name).await?;
    let snapshot = find::snapshot(talk, Some(&volume), wanted).await?;
    let since = instant(snapshot.created_at.as_deref());
    let mut plan = Plan::new(format!(
        "Bring the volume {name:?} back to its snapshot {wanted:?} of {since}"
    ))
    .lose(format!("everything that was written to the volume since {since}"))
    .keep(format!("the snapshot {wanted:?} itself, and the older ones"))
    .blocked(
        volume.status != "available",
        format!(
            "the volume is {}: it must be available, attached to nothing",
            volume.status
        ),
    )
    .blocked(
        volume.size != snapshot.size,
        format!(
            "the volume has {} now, and had {} then: stillpoint volume create NAME --snapshot {wanted}",
            gib(volume.size),
            gib(snapshot.size)
        ),
    );
    for newer in find::snapshots(talk, Some(&volume.id)).await? {
        if newer.created_at > snapshot.created_at {
            let newer = or_dash(newer.name.as_deref());
            plan = plan.blocked(
                true,
                format!(
                    "the snapshot {newer:?} is newer, and a volume goes back to its newest one only. To keep it: \
                     stillpoint volume create NAME --snapshot {wanted}; else: stillpoint volume snapshot delete {name} \
                     {newer}"
                ),
            );
        }
    }
    if !plan.confirm(&talk.session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let (id, to, look) = (volume.id.clone(), snapshot.id.clone(), look(name));
    let failure = format!("the volume {name:?} was not brought back to its snapshot {wanted:?}");
    talk.change(
        &failure,
        &look,
        |cloud| async move { cloud.revert_volume(&id, &to).await },
    )
    .await
    .map_err(|trouble| plan.refused(trouble))?;
    let what = format!("volume {name} is being brought back to {wanted:?}");
    let end = async |limit| talk.cloud.settled_volume(&volume.id, limit).await;
    talk.wait(&what, &look, &options.waiting, end).await?;
    show(talk, &volume.id).await?.print(&talk.session)
}

pub(super) async fn delete(talk: &Talk, options: &Delete) -> Result<ExitCode, Trouble> {
    let name = &options.volume;
    let volume = find::volume(talk, name).await?;
    let mut plan = Plan::new(format!("Delete the volume {name:?}"))
        .lose(format!("what is on it: it has {}", gib(volume.size)))
        .keep("volumes that were made from it or from its snapshots")
        .blocked(
            volume.status == "in-use",
            format!(
                "it is in use, attached to {}: stillpoint disk detach VM {name}",
                super::attached(&volume)
            ),
        );
    for snapshot in find::snapshots(talk, Some(&volume.id)).await? {
        let snapshot = or_dash(snapshot.name.as_deref());
        plan = if options.with_snapshots {
            plan.lose(format!("its snapshot {snapshot:?}"))
        } else {
            plan.blocked(
                true,
                format!("its snapshot {snapshot:?}: give --with-snapshots to delete them, too"),
            )
        };
    }
    if !plan.confirm(&talk.session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let (id, cascade) = (volume.id.clone(), options.with_snapshots);
    let failure = format!("the volume {name:?} was not deleted");
    let make = |cloud: stillpoint_sdk::volume::Cloud| {
        let id = id.clone();
        async move { cloud.delete_volume(&id, cascade).await }
    };
    talk.remove(&failure, &look(name), make)
        .await
        .map_err(|trouble| plan.refused(trouble))?;
    let what = format!("volume {name} is being deleted");
    let end = async |limit| talk.cloud.gone_volume(&id, limit).await;
    talk.wait(&what, &look(name), &options.waiting, end).await?;
    gone(&talk.session, "volume", name)
}
