//! Bringing a VM back to a snapshot.

use super::plan::{
    Again, Plan, blocked_unless, held, left_out, lose_later, many, names, newer, stop_first, tick, when,
};
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
    command::{RestoreSnapshot, StopVm},
    view::SnapshotView,
};
use stillpoint_types::VmStatus;

fn plan(scene: &Scene, one: &SnapshotView, form: Option<&Fields>) -> Plan {
    let (name, text) = (scene.name(), &one.description);
    let disks = names(held(one).map(|a| a.alias.as_str()));
    let mut plan = Plan {
        title: format!("Restore {name} to “{text}”"),
        button: "Restore",
        back: scene.snapshot_place(one.id),
        ..Plan::default()
    };
    if disks.is_empty() {
        plan.happens
            .push("The snapshot holds no disk: only the VM's configuration goes back.".into());
    } else {
        plan.happens
            .push(format!("The disks {disks} have again what they held at {}.", when(one)));
    }
    let out = left_out(one);
    if !out.is_empty() {
        let out = names(out.into_iter());
        plan.happens
            .push(format!("The snapshot left out {out}: that stays as it is now."));
    }
    let older = scene.snapshots.iter().take_while(|other| other.id != one.id).count();
    plan.happens.push(format!(
        "This snapshot stays, and can be restored again; so do {} before it.",
        many(older, "snapshot")
    ));
    plan.happens.push(
        "The VM is not running afterwards: start it then. Name, description and deletion protection stay.".into(),
    );
    lose_later(&mut plan, scene, one);
    if scene.vm.status == VmStatus::Suspended {
        plan.lose("The memory with which the VM would go on now.", "suspended memory");
    }
    if scene.is_running() {
        plan.lose(
            "The memory of the running guest, and what it has not yet written to its disks, if it is stopped for this.",
            "running guest",
        );
    }
    plan.blocked_by_holder(scene);
    blocked_unless(
        &mut plan,
        scene,
        &[VmStatus::Down, VmStatus::Suspended],
        "down: shut it down, or have it stopped below",
    );
    plan.blocked(
        scene.previewed().is_some(),
        "A snapshot is being previewed: commit or undo that first.",
    );
    let hint = html! { "The guest goes on in the middle of what it did. Without it, it boots as after a power cut." };
    let label = match scene.sizes.memory.get(&one.id) {
        Some(bytes) => format!("Bring the memory back, too ({})", ui::bytes(*bytes)),
        None => "Bring the memory back, too".into(),
    };
    let is_wanted = form.is_none_or(|form| form.is_set("memory"));
    plan.fields = Some(html! {
        @if one.memory.is_some() { (tick("memory", is_wanted, &label, &hint)) }
        @if scene.is_running() { (stop_first(scene, form)) }
    });
    plan
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
            let lost = match newer(&scene, one.id).count() {
                0 => String::new(),
                count => format!("; {} went", many(count, "newer snapshot")),
            };
            let said = format!("{} goes back to “{}”{lost}.", scene.name(), one.description);
            Ok(ui::done(&visit, &scene.place(), &said))
        }
        Err(again) => {
            // The VM may have been stopped already: what is shown is what is now.
            let scene = Scene::change(&visit, &id).await?;
            plan(&scene, scene.snapshot(&sid)?, Some(&form)).page(&visit, Some(&again))
        }
    }
}

async fn submit(visit: &Visit, scene: &Scene, one: &SnapshotView, form: &Fields) -> Result<(), Again> {
    plan(scene, one, Some(form)).expect_seen(form)?;
    let vm = scene.vm.id;
    if form.is_set("stop") && scene.is_running() {
        visit.engine().stop_vm(&visit.who, &visit.origin, StopVm { vm }).await?;
    }
    let command = RestoreSnapshot {
        vm,
        snapshot: one.id,
        memory: form.is_set("memory"),
    };
    visit
        .engine()
        .restore_snapshot(&visit.who, &visit.origin, command)
        .await?;
    Ok(())
}
