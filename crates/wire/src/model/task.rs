//! What happens and has happened: actions, jobs with their steps, events.

use super::*;
use crate::{Date, describe::describe};

describe! {
    /// The body of an action, in both directions: its parameters, and what came of it.
    Action: "action" / "actions", by head {
        flat head: Header,
        el run_async = "async": bool,
        el directory: String,
        el discard_snapshots: bool,
        el disk: Box<Disk>,
        el disk_profile: Box<DiskProfile>,
        el disks: Vec<Disk>,
        el exclusive: bool,
        el fault: Fault,
        el filename: String,
        el filter: bool,
        el force: bool,
        el grace_period: GracePeriod,
        el host: Box<Host>,
        el job: Box<Job>,
        el lease: StorageDomainLease,
        el pause: bool,
        el quota: Box<Quota>,
        el reason: String,
        el restore_memory: bool,
        el snapshot: Box<Snapshot>,
        /// `pending`, `in_progress`, `complete`, `failed`.
        el status: State,
        el storage_domain: Box<StorageDomain>,
        /// How an external job or step ended.
        el succeeded: bool,
        el template: Box<Template>,
        el use_cloud_init: bool,
        el use_initialization: bool,
        el use_sysprep: bool,
        el vm: Box<Vm>,
        el volatile: bool,
    }

    /// A delay before an action starts.
    GracePeriod: "grace_period" {
        /// Milliseconds.
        el expiry: i64,
    }

    /// The state of an addition that goes on in the background.
    Creation: "creation" / "creations", by head {
        flat head: Header,
        el fault: Fault,
        el status: State,
    }

    /// What version 3 puts into the body of a removal.
    Removal: "action" / "actions" {
        /// The disk is only taken off its VM.
        el detach: bool,
        el force: bool,
        el vm: RemovalVm,
    }

    /// What to do with what belongs to a VM that is removed.
    RemovalVm: "vm" {
        el disks: RemovalDisks,
    }

    /// What to do with the disks of a VM that is removed.
    RemovalDisks: "disks" {
        /// They are kept.
        el detach_only: bool,
    }

    /// A task of the server.
    Job: "job" / "jobs", by head {
        flat head: Header,
        el auto_cleared: bool,
        el end_time: Date,
        el external: bool,
        el last_updated: Date,
        el start_time: Date,
        /// `started`, `finished`, `failed`, `aborted`, `unknown`.
        el status: State,
        el owner: Box<User>,
        el steps: Vec<Step>,
    }

    /// A part of a job.
    Step: "step" / "steps", by head {
        flat head: Header,
        el end_time: Date,
        el external: bool,
        el external_type: String,
        el number: i32,
        /// Per cent.
        el progress: i32,
        el start_time: Date,
        el status: State,
        el kind = "type": String,
        el execution_host: Box<Host>,
        el job: Box<Job>,
        el parent_step: Box<Step>,
        el statistics: Vec<Statistic>,
    }

    /// An entry of the event log. Its id is its index.
    Event: "event" / "events", by head {
        flat head: Header,
        el code: i32,
        el correlation_id: String,
        el custom_data: String,
        el custom_id: i32,
        el flood_rate: i32,
        el index: i64,
        el log_on_host: bool,
        el origin: String,
        /// `normal`, `warning`, `error`, `alert`.
        el severity: String,
        el time: Date,
        el cluster: Box<Cluster>,
        el data_center: Box<DataCenter>,
        el host: Box<Host>,
        el storage_domain: Box<StorageDomain>,
        el template: Box<Template>,
        el user: Box<User>,
        el vm: Box<Vm>,
    }
}
