//! Starting a backup.

use super::{list::shown, place};
use crate::{
    snapshot::plan::{Again, Plan, blocked_unless, many, tick},
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
    vm::Scene,
};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::{Markup, html};
use stillpoint_engine::{Fault, command::CreateBackup, view::CheckpointView};
use stillpoint_types::{BackupId, CheckpointId, DiskId, FaultCode, VmStatus};

fn is_chosen(form: Option<&Fields>, disk: DiskId) -> bool {
    form.is_none_or(|form| form.all("disk").contains(&disk.to_string()))
}

fn fields(visit: &Visit, scene: &Scene, checkpoints: &[CheckpointView], form: Option<&Fields>) -> Markup {
    let from = form.map_or_else(|| visit.query.text("from"), |form| form.text("from"));
    let typed = form.and_then(|form| form.raw("description")).unwrap_or_default();
    let ticked = |name: &str| form.is_some_and(|form| form.is_set(name));
    let active = html! { "No snapshot is shown for it, and the VM is locked until the backup ends: no snapshot, no change of its disks, no stop by a job." };
    let strict = html! { "If the guest's agent does not answer, or refuses, the backup fails instead of being as after a power cut." };
    html! {
        label for="from" { "What it holds" }
        select id="from" name="from" {
            option value="" selected[from.is_none()] { "All of the disks (full)" }
            @for one in checkpoints.iter().rev() {
                option value=(one.id) selected[from.is_some_and(|from| from == one.id.to_string())] {
                    "What changed since " (shown(one)) @if !one.description.is_empty() { ", " (one.description) }
                }
            }
        }
        fieldset {
            legend { "Disks" }
            @for one in scene.disks.iter().filter(|one| one.active) {
                div.check {
                    input type="checkbox" id={ "disk-" (one.disk.id) } name="disk" value=(one.disk.id) checked[is_chosen(form, one.disk.id)];
                    label for={ "disk-" (one.disk.id) } { (one.disk.alias) }
                    span.dim { (ui::bytes(one.disk.size_bytes)) }
                }
            }
        }
        label for="description" { "Description" }
        input id="description" name="description" value=(typed) maxlength="1024" autocomplete="off" placeholder="nightly";
        @if scene.vm.status == VmStatus::Up {
            (tick("require_consistency", ticked("require_consistency"), "Fail if the guest's file systems cannot be frozen", &strict))
            (tick("use_active", ticked("use_active"), "Without a snapshot that users see", &active))
        }
    }
}

async fn plan(visit: &Visit, scene: &Scene, form: Option<&Fields>) -> Result<Plan, Trouble> {
    let checkpoints = visit.engine().checkpoints(&visit.who, scene.vm.id).await?;
    let running = visit.engine().backups(&visit.who, scene.vm.id).await?;
    let disks = many(scene.disks.iter().filter(|one| one.active).count(), "disk");
    let mut plan = Plan {
        title: format!("Start a backup of {}", scene.name()),
        button: "Start the backup",
        back: place(scene),
        fields: Some(fields(visit, scene, &checkpoints, form)),
        ..Plan::default()
    };
    plan.happens.push(match scene.vm.status {
        VmStatus::Up => format!(
            "The chosen of its {disks} are held as they are at one instant, with the guest's file systems frozen for some milliseconds if its agent \
             answers. The guest goes on."
        ),
        _ => format!("The chosen of its {disks} are held as they are. The VM is locked until the backup ends: it cannot be started meanwhile."),
    });
    plan.happens.push(
        "Then a backup client can download them. Nothing is copied by itself: finalize it when the client is done."
            .into(),
    );
    plan.happens
        .push("Ended well, it leaves a checkpoint, since which the next backup can ask for changes only.".into());
    plan.blocked_by_holder(scene);
    blocked_unless(&mut plan, scene, &[VmStatus::Up, VmStatus::Down], "up or down");
    plan.blocked(
        scene.previewed().is_some(),
        "A snapshot is being previewed: commit or undo that first.",
    );
    plan.blocked(
        running.iter().any(|one| !one.phase.is_end()),
        "A backup is under way: finalize it first.",
    );
    Ok(plan)
}

/// The page that asks.
pub(crate) async fn ask(Path(id): Path<String>, visit: Visit) -> Result<Response<Body>, Trouble> {
    let scene = Scene::change(&visit, &id).await?;
    plan(&visit, &scene, None).await?.page(&visit, None)
}

/// Does it.
pub(crate) async fn act(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let scene = Scene::change(&visit, &id).await?;
    match submit(&visit, &scene, &form).await {
        Ok(id) => Ok(ui::done(
            &visit,
            &format!("{}/{id}", place(&scene)),
            "The backup has been started.",
        )),
        Err(fault) => plan(&visit, &scene, Some(&form))
            .await?
            .page(&visit, Some(&Again::Fault(fault))),
    }
}

async fn submit(visit: &Visit, scene: &Scene, form: &Fields) -> Result<BackupId, Fault> {
    let from: Option<CheckpointId> = form.text("from").map(str::parse).transpose().map_err(|_bad| {
        Fault::new(
            FaultCode::InvalidValue,
            "What changed since when? That is the id of no checkpoint: choose one from the list.",
        )
    })?;
    let chosen = scene
        .disks
        .iter()
        .filter(|one| one.active && is_chosen(Some(form), one.disk.id));
    let command = CreateBackup {
        vm: scene.vm.id,
        id: None,
        from,
        disks: chosen.map(|one| one.disk.id).collect(),
        description: form.text("description").unwrap_or_default().to_owned(),
        require_consistency: form.is_set("require_consistency"),
        use_active: form.is_set("use_active"),
    };
    Ok(visit
        .engine()
        .backup_create(&visit.who, &visit.origin, command)
        .await?
        .id)
}
