//! The core: what Stillpoint decides, in no dialect and with no driver.
//!
//! Here are the commands, their validation, the locks, the durable jobs and the views. It knows no HTTP, no XML, no
//! QMP and no SQL text: edges ask through [`Engine`], the world is reached through [`ports`], rows through `store`.

mod access;
mod at_rest;
mod backup;
mod checkpoint;
mod client;
pub mod command;
pub mod config;
mod disk;
mod engine;
mod event;
mod explain;
pub mod fault;
mod files;
pub mod graph;
mod house;
mod job;
mod journal;
mod limits;
mod lock;
mod news;
pub mod ports;
mod progress;
mod reconcile;
mod repair;
mod snapshot;
mod stalls;
mod transfer;
pub mod view;
mod vm;
mod volume;

pub use engine::{Engine, Options};
pub use fault::Fault;
pub use news::News;

use std::sync::Arc;
use stillpoint_store::job::JobRow;

/// The saga of a recorded job. Each kind appears here once, with the version whose parameters it reads.
fn saga(row: &JobRow) -> Result<Arc<dyn journal::Saga>, Fault> {
    match (row.kind.as_str(), row.version) {
        (snapshot::create::KIND, 1) => snapshot::create::load(row),
        (snapshot::delete::KIND | snapshot::delete::KIND_MERGE, 1) => snapshot::delete::load(row),
        (snapshot::restore::KIND, 1) => snapshot::restore::load(row),
        (snapshot::preview::KIND, 1) => snapshot::preview::load(row),
        (vm::clone::KIND, 1) => vm::clone::load(row),
        (vm::start::KIND, 1) => vm::start::load(row),
        (disk::create::KIND, 1) => disk::create::load(row),
        (disk::copy::KIND, 1) => disk::copy::load(row),
        (disk::sparsify::KIND, 1) => disk::sparsify::load(row),
        (disk::expose::KIND, 1) => disk::expose::load(row),
        (disk::extend::KIND, 1) => disk::extend::load(row),
        (disk::plug::KIND_PLUG | disk::plug::KIND_UNPLUG, 1) => disk::plug::load(row),
        (volume::create::KIND, 1) => volume::create::load(row),
        (volume::snapshot::settle::KIND, 1) => volume::snapshot::settle::load(row),
        (volume::revert::KIND, 1) => volume::revert::load(row),
        (transfer::KIND, 1) => transfer::load(row),
        (backup::KIND, 1) => backup::load(row),
        (repair::saga::KIND, 1) => repair::saga::load(row),
        (kind, version) => Err(Fault::internal(format!(
            "job {} is of kind {kind} version {version}, which this daemon does not know: start the newer one",
            row.id
        ))),
    }
}
