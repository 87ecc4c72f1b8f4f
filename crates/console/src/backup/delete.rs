//! Deleting a checkpoint.

use super::{list::shown, place};
use crate::{
    snapshot::plan::{Again, Plan},
    trouble::Trouble,
    ui,
    visit::{Posted, Visit},
    vm::Scene,
};
use axum::{body::Body, extract::Path};
use http::Response;
use stillpoint_engine::{command::DeleteCheckpoint, view::CheckpointView};
use stillpoint_types::CheckpointId;

async fn find(visit: &Visit, scene: &Scene, id: &str) -> Result<CheckpointView, Trouble> {
    let id: CheckpointId = id.parse().map_err(|_bad| Trouble::Nowhere)?;
    Ok(visit.engine().checkpoint(&visit.who, scene.vm.id, id).await?)
}

fn plan(scene: &Scene, one: &CheckpointView) -> Plan {
    let mut plan = Plan {
        title: format!("Delete a checkpoint of {}", scene.name()),
        button: "Delete the checkpoint",
        back: place(scene),
        ..Plan::default()
    };
    plan.happens.push(format!(
        "The checkpoint of {} is removed. No data are touched, neither here nor in any backup.",
        shown(one)
    ));
    plan.lose(
        "What changed since then is not known any more: a backup cannot start from it. Its backups in a directory stay as they are, but the next one \
         has to start from another checkpoint, or be full.",
        one.id,
    );
    plan
}

/// The page that asks.
pub(crate) async fn ask(
    Path((id, checkpoint)): Path<(String, String)>,
    visit: Visit,
) -> Result<Response<Body>, Trouble> {
    let scene = Scene::change(&visit, &id).await?;
    let one = find(&visit, &scene, &checkpoint).await?;
    plan(&scene, &one).page(&visit, None)
}

/// Does it.
pub(crate) async fn act(
    Path((id, checkpoint)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let scene = Scene::change(&visit, &id).await?;
    let one = find(&visit, &scene, &checkpoint).await?;
    let plan = plan(&scene, &one);
    let command = DeleteCheckpoint {
        vm: scene.vm.id,
        checkpoint: one.id,
    };
    let done = match plan.expect_seen(&form) {
        Ok(()) => visit
            .engine()
            .checkpoint_delete(&visit.who, &visit.origin, command)
            .await
            .map_err(Again::Fault),
        Err(again) => Err(again),
    };
    match done {
        Ok(()) => Ok(ui::done(
            &visit,
            &plan.back,
            &format!("The checkpoint of {} has been deleted.", shown(&one)),
        )),
        Err(again) => plan.page(&visit, Some(&again)),
    }
}
