//! Deleting a snapshot.

use super::plan::{Again, Plan, blocked_unless, when};
use crate::{
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
    vm::Scene,
};
use axum::{body::Body, extract::Path};
use http::Response;
use stillpoint_engine::{command::DeleteSnapshot, view::SnapshotView};
use stillpoint_types::VmStatus;

fn plan(scene: &Scene, one: &SnapshotView) -> Plan {
    let (name, text) = (scene.name(), &one.description);
    let mut plan = Plan {
        title: format!("Delete the snapshot “{text}”"),
        button: "Delete",
        back: scene.snapshot_place(one.id),
        happens: vec![format!(
            "What {name} has on its disks stays, and its other snapshots stay."
        )],
        ..Plan::default()
    };
    if scene.sizes.disks.contains_key(&one.id) {
        let goes_on = if scene.is_running() {
            " while the guest goes on"
        } else {
            ""
        };
        plan.happens.push(format!(
            "Where nothing else stands on its layers, they are merged with those above{goes_on}. That may take a while; it is shown as a job."
        ));
    }
    plan.lose(format!("The way back to {}.", when(one)), one.id);
    if let Some(bytes) = scene.sizes.memory.get(&one.id) {
        plan.lose(
            format!("The guest's memory of that moment ({}).", ui::bytes(*bytes)),
            "memory",
        );
    }
    plan.blocked_by_holder(scene);
    let allowed = &[VmStatus::Up, VmStatus::Paused, VmStatus::Down];
    blocked_unless(&mut plan, scene, allowed, "up, paused or down");
    plan.blocked(
        scene.previewed().is_some(),
        "A snapshot is being previewed: commit or undo that first.",
    );
    plan
}

/// The page that asks.
pub(crate) async fn ask(Path((id, sid)): Path<(String, String)>, visit: Visit) -> Result<Response<Body>, Trouble> {
    let scene = Scene::change(&visit, &id).await?;
    plan(&scene, scene.snapshot(&sid)?).page(&visit, None)
}

/// Does it.
pub(crate) async fn act(Path((id, sid)): Path<(String, String)>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let scene = Scene::change(&visit, &id).await?;
    let one = scene.snapshot(&sid)?;
    match submit(&visit, &scene, one, &form).await {
        Ok(()) => {
            let said = format!("The snapshot “{}” goes.", one.description);
            Ok(ui::done(&visit, &scene.place(), &said))
        }
        Err(again) => {
            let scene = Scene::change(&visit, &id).await?;
            plan(&scene, scene.snapshot(&sid)?).page(&visit, Some(&again))
        }
    }
}

async fn submit(visit: &Visit, scene: &Scene, one: &SnapshotView, form: &Fields) -> Result<(), Again> {
    plan(scene, one).expect_seen(form)?;
    let command = DeleteSnapshot {
        vm: scene.vm.id,
        snapshot: one.id,
    };
    visit
        .engine()
        .delete_snapshot(&visit.who, &visit.origin, command)
        .await?;
    Ok(())
}
