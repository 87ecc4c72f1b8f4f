//! Taking a snapshot.

use super::plan::{Again, Plan, blocked_unless, many, tick};
use crate::{
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
    vm::Scene,
};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::{Markup, html};
use stillpoint_engine::command::{CreateSnapshot, SnapshotDisk};
use stillpoint_types::{DiskId, VmStatus};

fn is_chosen(form: Option<&Fields>, disk: DiskId) -> bool {
    form.is_none_or(|form| form.all("disk").contains(&disk.to_string()))
}

fn fields(scene: &Scene, form: Option<&Fields>) -> Markup {
    let typed = form.and_then(|form| form.raw("name")).unwrap_or_default();
    let is_live = matches!(scene.vm.status, VmStatus::Up | VmStatus::Paused);
    let hint = html! {
        "Then it can go on from there in the middle of what it does. Takes up to " (ui::bytes(scene.vm.config.memory_bytes))
        ", and needs all disks."
    };
    html! {
        label for="name" { "Name" }
        input id="name" name="name" value=(typed) required maxlength="4000" autocomplete="off" autofocus
            placeholder="before the upgrade";
        @if is_live && !scene.disks.is_empty() {
            (tick("memory", form.is_some_and(|form| form.is_set("memory")), "Save the guest's memory, too", &hint))
        }
        @if !scene.disks.is_empty() {
            fieldset {
                legend { "Disks" }
                @for one in &scene.disks {
                    div.check {
                        input type="checkbox" id={ "disk-" (one.disk.id) } name="disk" value=(one.disk.id)
                            checked[is_chosen(form, one.disk.id)];
                        label for={ "disk-" (one.disk.id) } { (one.disk.alias) }
                        span.dim { (ui::bytes(one.disk.size_bytes)) }
                    }
                }
            }
        }
    }
}

fn plan(scene: &Scene, form: Option<&Fields>) -> Plan {
    let name = scene.name();
    let mut plan = Plan {
        title: format!("Take a snapshot of {name}"),
        button: "Take the snapshot",
        back: scene.place(),
        ..Plan::default()
    };
    let disks = many(scene.disks.len(), "disk");
    plan.happens.push(match scene.vm.status {
        VmStatus::Up => format!(
            "The configuration and the chosen of its {disks} are kept as they are at one instant. The guest goes on; if its agent \
             answers, its file systems are frozen for that instant."
        ),
        _ => format!("The configuration and the chosen of its {disks} are kept as they are at one instant."),
    });
    plan.happens
        .push("What is written later goes into new layers, so that you can come back to this moment.".into());
    plan.blocked_by_holder(scene);
    let allowed = &[VmStatus::Up, VmStatus::Paused, VmStatus::Down];
    blocked_unless(&mut plan, scene, allowed, "up, paused or down");
    plan.blocked(
        scene.previewed().is_some(),
        "A snapshot is being previewed: commit or undo that first.",
    );
    plan.fields = Some(fields(scene, form));
    plan
}

/// The page that asks.
pub(crate) async fn ask(Path(id): Path<String>, visit: Visit) -> Result<Response<Body>, Trouble> {
    let scene = Scene::change(&visit, &id).await?;
    plan(&scene, None).page(&visit, None)
}

/// Does it.
pub(crate) async fn act(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let scene = Scene::change(&visit, &id).await?;
    match submit(&visit, &scene, &form).await {
        Ok(()) => {
            let said = format!(
                "The snapshot “{}” is being taken.",
                form.text("name").unwrap_or_default()
            );
            Ok(ui::done(&visit, &scene.place(), &said))
        }
        Err(again) => plan(&scene, Some(&form)).page(&visit, Some(&again)),
    }
}

async fn submit(visit: &Visit, scene: &Scene, form: &Fields) -> Result<(), Again> {
    let chosen = scene.disks.iter().filter(|one| is_chosen(Some(form), one.disk.id));
    let chosen: Vec<_> = chosen
        .map(|one| SnapshotDisk {
            disk: one.disk.id,
            image: None,
        })
        .collect();
    let command = CreateSnapshot {
        vm: scene.vm.id,
        description: form.text("name").unwrap_or_default().to_owned(),
        memory: form.is_set("memory"),
        disks: (chosen.len() != scene.disks.len()).then_some(chosen),
    };
    visit
        .engine()
        .create_snapshot(&visit.who, &visit.origin, command)
        .await?;
    Ok(())
}
