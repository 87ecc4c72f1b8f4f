//! All pages of the console, on one page.

use crate::{
    Console, assets, backup, dialect, disk, event, home, job, live, point, session, snapshot, storage, user, vm, volume,
};
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
        .merge(of_storage())
        .merge(of_users())
        .route("/console/events", get(event::show))
        .route("/console/dialects/vm/{id}", get(dialect::vm))
        .route("/console/dialects/disk/{id}", get(dialect::disk))
        .route("/console/dialects/snapshot/{vm}/{id}", get(dialect::snapshot))
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

/// Disks, volumes and what they lie on.
fn of_storage() -> Router<Console> {
    let (disk, volume) = ("/console/disks/{id}", "/console/volumes/{id}");
    let snapshot = "/console/volumes/{id}/snapshots";
    Router::new()
        .route("/console/storage", get(storage::show))
        .route("/console/disks", get(disk::show))
        .route("/console/disks/new", get(disk::act::ask_new).post(disk::act::make))
        .route(disk, get(disk::page::show))
        .route(
            &format!("{disk}/extend"),
            get(disk::act::ask_extend).post(disk::act::extend),
        )
        .route(
            &format!("{disk}/delete"),
            get(disk::act::ask_delete).post(disk::act::delete),
        )
        .route("/console/volumes", get(volume::show))
        .route(volume, get(volume::page::show))
        .route(
            &format!("{snapshot}/new"),
            get(volume::act::ask_new).post(volume::act::take),
        )
        .route(
            &format!("{snapshot}/{{sid}}/revert"),
            get(volume::act::ask_revert).post(volume::act::revert),
        )
        .route(
            &format!("{snapshot}/{{sid}}/delete"),
            get(volume::act::ask_delete).post(volume::act::delete),
        )
}

/// Users, projects, roles and keys.
fn of_users() -> Router<Console> {
    let one = "/console/users/{id}";
    Router::new()
        .route("/console/users", get(user::show))
        .route("/console/users/new", get(user::create::ask).post(user::create::act))
        .route(
            "/console/projects/new",
            get(user::create::ask_project).post(user::create::act_project),
        )
        .route(one, get(user::page::show))
        .route(
            &format!("{one}/password"),
            get(user::act::ask_password).post(user::act::password),
        )
        .route(
            &format!("{one}/enabled"),
            get(user::act::ask_enabled).post(user::act::enabled),
        )
        .route(
            &format!("{one}/grant"),
            get(user::role::ask_grant).post(user::role::grant),
        )
        .route(
            &format!("{one}/revoke"),
            get(user::role::ask_revoke).post(user::role::revoke),
        )
        .route(
            &format!("{one}/keys/new"),
            get(user::key::ask_new).post(user::key::make),
        )
        .route(
            &format!("{one}/keys/{{key}}/delete"),
            get(user::key::ask_delete).post(user::key::delete),
        )
}
