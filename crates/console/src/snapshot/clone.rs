//! Making a VM from a snapshot.

use super::plan::{Again, Plan, held, many, when};
use crate::{
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
    vm::{self, Scene},
};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::html;
use stillpoint_engine::{
    command::{CloneVm, VmFields},
    view::SnapshotView,
};
use stillpoint_types::VmId;

fn plan(scene: &Scene, one: &SnapshotView, form: Option<&Fields>) -> Plan {
    let mut plan = Plan {
        title: format!("New VM from “{}”", one.description),
        button: "Make the VM",
        back: scene.snapshot_place(one.id),
        happens: vec![
            format!(
                "A VM is made with the configuration of {} and {}, which begin with what they held at {}.",
                scene.name(),
                many(held(one).count(), "disk"),
                when(one)
            ),
            "Nothing is copied: its disks stand on the snapshot's layers, and each VM writes into layers of its own."
                .into(),
            "It has its own MAC addresses, no snapshots and no memory: it boots when it is started.".into(),
        ],
        ..Plan::default()
    };
    plan.blocked_by_holder(scene);
    plan.blocked(
        scene.previewed().is_some(),
        "A snapshot is being previewed: commit or undo that first.",
    );
    let typed = form.and_then(|form| form.raw("name")).unwrap_or_default();
    plan.fields = Some(html! {
        label for="name" { "Name of the new VM" }
        input id="name" name="name" value=(typed) required maxlength="255" autocomplete="off" autofocus;
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
    match submit(&visit, one, &form).await {
        Ok(made) => {
            let said = format!("Made from “{}” of {}.", one.description, scene.name());
            Ok(ui::done(&visit, &vm::place(made), &said))
        }
        Err(again) => plan(&scene, one, Some(&form)).page(&visit, Some(&again)),
    }
}

async fn submit(visit: &Visit, one: &SnapshotView, form: &Fields) -> Result<VmId, Again> {
    let command = CloneVm {
        snapshot: one.id,
        fields: VmFields {
            name: form.text("name").map(str::to_owned),
            ..VmFields::default()
        },
    };
    Ok(visit.engine().clone_vm(&visit.who, &visit.origin, command).await?.id)
}
