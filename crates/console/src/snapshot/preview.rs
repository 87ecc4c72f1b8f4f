//! Previewing a snapshot, and the two ways out: commit and undo.

use super::plan::{Again, Plan, blocked_unless, held, lose_later, many, stop_first, tick, when};
use crate::{
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
    vm::Scene,
};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::html;
use stillpoint_engine::{
    Fault,
    command::{EndPreview, PreviewDisk, PreviewSnapshot, StopVm},
    config::AttachmentConfig,
    view::SnapshotView,
};
use stillpoint_types::{DiskId, FaultCode, SnapshotId, VmStatus};

/// The field of a disk: `then` or `now`.
fn field(disk: DiskId) -> String {
    format!("disk-{disk}")
}

/// Whether the form wants the disk as it is now.
fn is_kept(form: Option<&Fields>, disk: DiskId) -> bool {
    form.and_then(|form| form.raw(&field(disk))) == Some("now")
}

fn plan(scene: &Scene, one: &SnapshotView, form: Option<&Fields>) -> Plan {
    let (name, text) = (scene.name(), &one.description);
    let mut plan = Plan {
        title: format!("Preview “{text}” of {name}"),
        button: "Preview",
        back: scene.snapshot_place(one.id),
        happens: vec![
            format!(
                "{name} stands on “{text}” of {}, on trial. Start it and look.",
                when(one)
            ),
            "What it has now is kept. Undo leads back to exactly that; commit stays at the snapshot.".into(),
            "Until then no snapshot can be taken or removed, and no backup made.".into(),
        ],
        ..Plan::default()
    };
    plan.blocked_by_holder(scene);
    blocked_unless(
        &mut plan,
        scene,
        &[VmStatus::Down],
        "down: shut it down first, or have it stopped below",
    );
    plan.blocked(
        scene.previewed().is_some(),
        "A snapshot is being previewed already: commit or undo that first.",
    );
    if scene.is_running() {
        plan.lose(
            "The memory of the running guest, and what it has not yet written to its disks, if it is stopped for this.",
            "running guest",
        );
    }
    let disks: Vec<&AttachmentConfig> = held(one).collect();
    let is_attached = |disk: DiskId| scene.disks.iter().any(|a| a.disk.id == disk);
    let hint = html! { "Only with all disks of the snapshot: a memory fits no others." };
    let is_wanted = form.is_none_or(|form| form.is_set("memory"));
    plan.fields = Some(html! {
        @if one.memory.is_some() { (tick("memory", is_wanted, "Bring the memory back, too", &hint)) }
        @if disks.len() > 1 || (disks.len() == 1 && scene.disks.len() > 1) {
            fieldset {
                legend { "Disks" }
                @for a in &disks {
                    label for=(field(a.disk)) { (a.alias) }
                    select id=(field(a.disk)) name=(field(a.disk)) {
                        option value="then" { "as it was in the snapshot" }
                        @if is_attached(a.disk) {
                            option value="now" selected[is_kept(form, a.disk)] { "as it is now" }
                        }
                    }
                }
            }
        }
        @if scene.is_running() { (stop_first(scene, form)) }
    });
    plan
}

async fn stop(visit: &Visit, scene: &Scene, form: &Fields) -> Result<(), Fault> {
    if form.is_set("stop") && scene.is_running() {
        let command = StopVm { vm: scene.vm.id };
        visit.engine().stop_vm(&visit.who, &visit.origin, command).await?;
    }
    Ok(())
}

/// The page that asks.
pub(crate) async fn ask(Path((id, sid)): Path<(String, String)>, visit: Visit) -> Result<Response<Body>, Trouble> {
    let scene = Scene::change(&visit, &id).await?;
    plan(&scene, scene.snapshot(&sid)?, None).page(&visit, None)
}

/// Does it.
pub(crate) async fn act(Path((id, sid)): Path<(String, String)>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let scene = Scene::change(&visit, &id).await?;
    let one = scene.snapshot(&sid)?;
    match submit(&visit, &scene, one, &form).await {
        Ok(()) => {
            let said = format!(
                "{} previews “{}”: start it, look, then commit or undo.",
                scene.name(),
                one.description
            );
            Ok(ui::done(&visit, &scene.place(), &said))
        }
        Err(again) => {
            let scene = Scene::change(&visit, &id).await?;
            plan(&scene, scene.snapshot(&sid)?, Some(&form)).page(&visit, Some(&again))
        }
    }
}

async fn submit(visit: &Visit, scene: &Scene, one: &SnapshotView, form: &Fields) -> Result<(), Again> {
    plan(scene, one, Some(form)).expect_seen(form)?;
    stop(visit, scene, form).await?;
    let active: Option<SnapshotId> = scene.active().map(|one| one.id);
    let is_all = held(one).all(|a| !is_kept(Some(form), a.disk));
    let disks = held(one).map(|a| PreviewDisk {
        disk: a.disk,
        image: None,
        snapshot: if is_kept(Some(form), a.disk) {
            active
        } else {
            Some(one.id)
        },
    });
    let command = PreviewSnapshot {
        vm: scene.vm.id,
        snapshot: one.id,
        memory: Some(form.is_set("memory")),
        disks: (!is_all).then(|| disks.collect()),
    };
    visit
        .engine()
        .preview_snapshot(&visit.who, &visit.origin, command)
        .await?;
    Ok(())
}

// ------------------------------------------------------------------------------------------------- its end

fn previewed(scene: &Scene) -> Result<&SnapshotView, Trouble> {
    scene.previewed().ok_or_else(|| {
        let text = format!(
            "VM {} is not previewing a snapshot: choose one of its snapshots and preview it first.",
            scene.name()
        );
        Fault::new(FaultCode::RelatedNotFound, text).into()
    })
}

fn end_plan(scene: &Scene, is_commit: bool, form: Option<&Fields>) -> Result<Plan, Trouble> {
    let one = previewed(scene)?;
    let (name, text) = (scene.name(), &one.description);
    let mut plan = Plan {
        back: scene.place(),
        ..Plan::default()
    };
    if is_commit {
        plan.title = format!("Commit the preview of “{text}”");
        plan.button = "Commit";
        plan.happens.push(format!(
            "{name} stays at “{text}” of {}, with what was written in the preview.",
            when(one)
        ));
        plan.happens.push("This snapshot and those before it stay.".into());
        lose_later(&mut plan, scene, one);
    } else {
        plan.title = format!("Undo the preview of “{text}”");
        plan.button = "Undo";
        let kept = scene
            .snapshots
            .iter()
            .filter(|other| other.config.is_some() && other.status_is_regular());
        plan.happens.push(format!(
            "{name} has again exactly what it had before the preview: disks and configuration."
        ));
        plan.happens.push(format!(
            "It keeps {}, “{text}” among them.",
            many(kept.count(), "snapshot")
        ));
        let bytes = ui::bytes(scene.active_bytes());
        plan.lose(
            format!("What was written in the preview: layers of {bytes} on disk."),
            "preview",
        );
        let kept = scene.former().and_then(|former| former.config.as_ref());
        for a in &scene.disks {
            let was_there = kept.is_none_or(|kept| kept.attachments.iter().any(|then| then.disk == a.disk.id));
            if !was_there {
                plan.lose(
                    format!(
                        "The attachment of disk {}: it stays, but belongs to no VM then.",
                        a.disk.alias
                    ),
                    a.disk.id,
                );
            }
        }
    }
    if scene.is_running() {
        plan.lose(
            "The memory of the running guest, and what it has not yet written to its disks, if it is stopped for this.",
            "running guest",
        );
        plan.fields = Some(stop_first(scene, form));
    }
    plan.blocked_by_holder(scene);
    blocked_unless(
        &mut plan,
        scene,
        &[VmStatus::Down, VmStatus::Suspended],
        "down: shut it down first, or have it stopped below",
    );
    Ok(plan)
}

/// A snapshot that users see.
trait Regular {
    fn status_is_regular(&self) -> bool;
}

impl Regular for SnapshotView {
    fn status_is_regular(&self) -> bool {
        self.kind == stillpoint_types::SnapshotType::Regular
    }
}

async fn ask_end(id: &str, visit: &Visit, is_commit: bool) -> Result<Response<Body>, Trouble> {
    let scene = Scene::change(visit, id).await?;
    end_plan(&scene, is_commit, None)?.page(visit, None)
}

async fn end(id: &str, posted: Posted, is_commit: bool) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let scene = Scene::change(&visit, id).await?;
    let plan = end_plan(&scene, is_commit, Some(&form))?;
    match submit_end(&visit, &scene, &plan, &form, is_commit).await {
        Ok(()) => {
            let text = &previewed(&scene)?.description;
            let said = if is_commit {
                format!("{} stays at “{text}”: the preview is committed.", scene.name())
            } else {
                format!(
                    "{} has again what it had before: the preview of “{text}” is undone.",
                    scene.name()
                )
            };
            Ok(ui::done(&visit, &scene.place(), &said))
        }
        Err(again) => {
            let scene = Scene::change(&visit, id).await?;
            end_plan(&scene, is_commit, Some(&form))?.page(&visit, Some(&again))
        }
    }
}

async fn submit_end(visit: &Visit, scene: &Scene, plan: &Plan, form: &Fields, is_commit: bool) -> Result<(), Again> {
    plan.expect_seen(form)?;
    stop(visit, scene, form).await?;
    let (engine, command) = (visit.engine(), EndPreview { vm: scene.vm.id });
    if is_commit {
        engine.commit_preview(&visit.who, &visit.origin, command).await?;
    } else {
        engine.undo_preview(&visit.who, &visit.origin, command).await?;
    }
    Ok(())
}

/// The page that asks whether to commit.
pub(crate) async fn ask_commit(Path(id): Path<String>, visit: Visit) -> Result<Response<Body>, Trouble> {
    ask_end(&id, &visit, true).await
}

/// Commits.
pub(crate) async fn commit(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    end(&id, posted, true).await
}

/// The page that asks whether to undo.
pub(crate) async fn ask_undo(Path(id): Path<String>, visit: Visit) -> Result<Response<Body>, Trouble> {
    ask_end(&id, &visit, false).await
}

/// Undoes.
pub(crate) async fn undo(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    end(&id, posted, false).await
}
