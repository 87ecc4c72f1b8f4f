//! All pages of the console, on one page.

use crate::{Console, assets, backup, home, job, live, point, session, snapshot, vm};
use axum::{
    Router,
    routing::{any, get, post},
};

/// The console's service: `/console` and what is below it. To be merged into the daemon's router.
pub fn router(console: Console) -> Router {
    Router::new()
        .route("/console", get(home::to_front))
        .route("/console/", get(home::show))
        .route("/console/login", get(session::login_page).post(session::login))
        .route("/console/logout", post(session::logout))
        .route("/console/assets/{name}", get(assets::get))
        .route("/console/live", get(live::stream))
        .merge(of_vms())
        .merge(of_points())
        .route("/console/{*rest}", any(home::nowhere))
        .with_state(console)
}

/// VMs and their snapshots.
fn of_vms() -> Router<Console> {
    let one = "/console/vms/{id}";
    let snapshot = "/console/vms/{id}/snapshots/{sid}";
    Router::new()
        .route("/console/vms/new", get(vm::create::ask).post(vm::create::act))
        .route(one, get(vm::page::show))
        .route(&format!("{one}/start"), get(vm::act::ask_start).post(vm::act::start))
        .route(
            &format!("{one}/shutdown"),
            get(vm::act::ask_shutdown).post(vm::act::shutdown),
        )
        .route(&format!("{one}/stop"), get(vm::act::ask_stop).post(vm::act::stop))
        .route(&format!("{one}/reboot"), get(vm::act::ask_reboot).post(vm::act::reboot))
        .route(&format!("{one}/delete"), get(vm::delete::ask).post(vm::delete::act))
        .route(
            &format!("{one}/commit"),
            get(snapshot::preview::ask_commit).post(snapshot::preview::commit),
        )
        .route(
            &format!("{one}/undo"),
            get(snapshot::preview::ask_undo).post(snapshot::preview::undo),
        )
        .route(
            &format!("{one}/snapshots/new"),
            get(snapshot::create::ask).post(snapshot::create::act),
        )
        .route(snapshot, get(snapshot::page::show))
        .route(
            &format!("{snapshot}/restore"),
            get(snapshot::restore::ask).post(snapshot::restore::act),
        )
        .route(
            &format!("{snapshot}/preview"),
            get(snapshot::preview::ask).post(snapshot::preview::act),
        )
        .route(
            &format!("{snapshot}/clone"),
            get(snapshot::clone::ask).post(snapshot::clone::act),
        )
        .route(
            &format!("{snapshot}/delete"),
            get(snapshot::delete::ask).post(snapshot::delete::act),
        )
}

/// Points in time, backups and jobs.
fn of_points() -> Router<Console> {
    let backups = "/console/vms/{id}/backups";
    Router::new()
        .route("/console/jobs", get(job::list::show))
        .route("/console/jobs/{id}", get(job::page::show))
        .route("/console/healing", get(job::healing::show))
        .route("/console/vms/{id}/points", get(point::page::show))
        .route(backups, get(backup::list::show))
        .route(
            &format!("{backups}/new"),
            get(backup::start::ask).post(backup::start::act),
        )
        .route(&format!("{backups}/{{bid}}"), get(backup::page::show))
        .route(
            &format!("{backups}/{{bid}}/finalize"),
            get(backup::finalize::ask).post(backup::finalize::act),
        )
        .route(
            "/console/vms/{id}/checkpoints/{cid}/delete",
            get(backup::delete::ask).post(backup::delete::act),
        )
}
