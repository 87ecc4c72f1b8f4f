//! Ending a backup.

use super::{find, place};
use crate::{
    snapshot::plan::{Again, Plan, many},
    trouble::Trouble,
    ui,
    visit::{Posted, Visit},
    vm::Scene,
};
use axum::{body::Body, extract::Path};
use http::Response;
use stillpoint_engine::{command::FinalizeBackup, view::BackupView};
use stillpoint_types::BackupPhase;

async fn plan(visit: &Visit, scene: &Scene, backup: &BackupView) -> Result<Plan, Trouble> {
    let watch = visit.engine().backup_watch(&visit.who, scene.vm.id, backup.id).await?;
    let mut plan = Plan {
        title: format!("Finalize the backup of {}", scene.name()),
        button: "Finalize it",
        back: format!("{}/{}", place(scene), backup.id),
        ..Plan::default()
    };
    match backup.phase {
        BackupPhase::Ready => {
            plan.happens.push(
                "Its moment is let go: what was held apart is merged in the background, while the guest goes on."
                    .into(),
            );
            if let Some(to) = backup.to {
                plan.happens.push(format!(
                    "Its checkpoint {to} stays: the next backup can ask for what changed since."
                ));
            }
        }
        BackupPhase::Initializing | BackupPhase::Starting => {
            plan.happens
                .push("It is not ready yet: it is given up, and fails.".into());
            plan.lose("Its moment. There will be no checkpoint of it.", "moment");
        }
        BackupPhase::Finalizing | BackupPhase::Succeeded => plan
            .happens
            .push("It is being ended, or has ended: nothing more.".into()),
        BackupPhase::Failed => plan.blocked(true, "It has failed: there is nothing to finalize."),
    }
    for disk in &watch.disks {
        let alias = backup
            .disks
            .iter()
            .find(|one| one.disk.id == disk.disk)
            .map_or("?", |one| one.disk.alias.as_str());
        plan.blocked(
            disk.transfers > 0,
            format!(
                "{} of disk {alias} is under way: its client has to finalize it, or cancel it.",
                many(disk.transfers, "image transfer")
            ),
        );
        let left = disk
            .map
            .as_ref()
            .map_or(0, |map| map.total().dirty - map.total().copied);
        if left > 0 {
            plan.lose(
                format!("{} of disk {alias} that nobody has downloaded since the daemon runs. After this they cannot be any more.", ui::bytes(left)),
                disk.disk,
            );
        }
    }
    Ok(plan)
}

/// The page that asks.
pub(crate) async fn ask(Path((id, backup)): Path<(String, String)>, visit: Visit) -> Result<Response<Body>, Trouble> {
    let scene = Scene::change(&visit, &id).await?;
    let backup = find(&visit, &scene, &backup).await?;
    plan(&visit, &scene, &backup).await?.page(&visit, None)
}

/// Does it.
pub(crate) async fn act(Path((id, backup)): Path<(String, String)>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let scene = Scene::change(&visit, &id).await?;
    let backup = find(&visit, &scene, &backup).await?;
    let plan = plan(&visit, &scene, &backup).await?;
    let command = FinalizeBackup {
        vm: scene.vm.id,
        backup: backup.id,
    };
    let done = match plan.expect_seen(&form) {
        Ok(()) => visit
            .engine()
            .backup_finalize(&visit.who, &visit.origin, command)
            .await
            .map_err(Again::Fault),
        Err(again) => Err(again),
    };
    match done {
        Ok(()) => Ok(ui::done(&visit, &plan.back, "The backup is being ended.")),
        Err(again) => plan.page(&visit, Some(&again)),
    }
}
