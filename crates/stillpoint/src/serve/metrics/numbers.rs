//! What is counted, under which name, and how it is asked for at a scrape.
//!
//! Requests are counted as they happen; the rest is read from where it is kept anyway (the catalogue, the engine, the data
//! plane), when somebody scrapes. Counters begin with the process. Names, kinds and helps are here and nowhere else:
//! `docs/reference/metrics.md` is made from them. No label tells a name or an id of anybody's things.

use super::Sources;
use anyhow::Result;
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::{collections::HashSet, sync::atomic::AtomicU64, time::Duration};
use stillpoint_store::numbers::{self, Count, Ended, Seen};
use stillpoint_types::{Caller, Micros, now_micros};
use tokio::sync::Mutex;

/// Before the last reading: a job's end may have been written a little later than it says.
const OVERLAP: Micros = 60_000_000;

type One = [(&'static str, String); 1];
type Two = [(&'static str, String); 2];
type Histograms = Family<One, Histogram, fn() -> Histogram>;
type Seconds = Counter<f64, AtomicU64>;
type Bytes = Counter<u64, AtomicU64>;

/// All numbers.
#[derive(Debug)]
pub(crate) struct Numbers {
    registry: Registry,
    requests: Family<Two, Counter>,
    request_seconds: Histograms,
    vms: Gauge,
    running: Gauge,
    by_status: Gauges<One>,
    frozen: Gauge,
    disks: Gauge,
    snapshots: Gauge,
    stall: Histogram,
    jobs: Gauges<Two>,
    jobs_ended: Family<Two, Counter>,
    job_seconds: Histograms,
    backups: Gauges<One>,
    transfers: Gauges<One>,
    moved: Family<One, Bytes>,
    events: Family<One, Counter>,
    free: Gauge,
    used: Gauge,
    committed: Gauge,
    statements: Counter,
    commits: Counter,
    commit_seconds: Seconds,
    memory: Gauge,
    state: Mutex<State>,
}

/// Gauges of a label: what is not there any more is 0, not silent.
#[derive(Debug, Default)]
struct Gauges<L: Clone + std::hash::Hash + Eq> {
    family: Family<L, Gauge>,
    known: std::sync::Mutex<HashSet<L>>,
}

impl<L: Clone + std::hash::Hash + Eq> Gauges<L> {
    fn set(&self, values: impl IntoIterator<Item = (L, u64)>) {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for label in known.iter() {
            self.family.get_or_create(label).set(0);
        }
        for (label, value) in values {
            self.family.get_or_create(&label).set(gauge(value));
            known.insert(label);
        }
    }
}

/// Up to where there was counted.
#[derive(Debug)]
struct State {
    /// When the counters began.
    begun: Micros,
    seen: Option<Seen>,
    /// Ended jobs that the next reading tells again.
    counted: HashSet<String>,
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn one(name: &'static str, value: impl Into<String>) -> One {
    [(name, value.into())]
}

/// Brings a counter up to a total that is kept elsewhere.
fn up_to(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// From 1 ms to about 16 s.
fn request_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// From 10 ms to some hours.
fn job_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 4.0, 11))
}

/// From 1 ms to about 4 s.
fn stall_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 13))
}

impl Numbers {
    #[expect(clippy::too_many_lines, reason = "a table: name, help and place of each number")]
    pub(crate) fn new() -> Self {
        let mut numbers = Self {
            registry: Registry::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(request_histogram),
            vms: Gauge::default(),
            running: Gauge::default(),
            by_status: Gauges::default(),
            frozen: Gauge::default(),
            disks: Gauge::default(),
            snapshots: Gauge::default(),
            stall: stall_histogram(),
            jobs: Gauges::default(),
            jobs_ended: Family::default(),
            job_seconds: Family::new_with_constructor(job_histogram),
            backups: Gauges::default(),
            transfers: Gauges::default(),
            moved: Family::default(),
            events: Family::default(),
            free: Gauge::default(),
            used: Gauge::default(),
            committed: Gauge::default(),
            statements: Counter::default(),
            commits: Counter::default(),
            commit_seconds: Seconds::default(),
            memory: Gauge::default(),
            state: Mutex::new(State {
                begun: now_micros(),
                seen: None,
                counted: HashSet::new(),
            }),
        };
        let mut registry = Registry::default();
        let to = &mut registry;
        let version: Family<One, Gauge> = Family::default();
        version.get_or_create(&one("version", env!("CARGO_PKG_VERSION"))).set(1);
        to.register(
            "stillpoint_build_info",
            "The program's version, as a label; always 1",
            version,
        );
        to.register("stillpoint_vms", "VMs in the catalogue", numbers.vms.clone());
        let help = "VMs that have a process";
        to.register("stillpoint_vms_running", help, numbers.running.clone());
        let help = "VMs by status, as the oVirt API has it; not_responding: QEMU lives and does not answer";
        to.register("stillpoint_vms_by_status", help, numbers.by_status.family.clone());
        let help = "Guests that are frozen because their users asked for it";
        to.register("stillpoint_guests_frozen", help, numbers.frozen.clone());
        to.register("stillpoint_disks", "Disks in the catalogue", numbers.disks.clone());
        let help = "Snapshots of VMs, without the active ones";
        to.register("stillpoint_snapshots", help, numbers.snapshots.clone());
        let help = "How long a guest's writes stood when its disks were switched to new images (snapshots and backups): from \
                    the freeze to the thaw, or the transaction alone. Guests that are stopped for their memory are not in it";
        to.register("stillpoint_switch_stall_seconds", help, numbers.stall.clone());
        let help = "Jobs that have not ended, by kind and state; unwinding: one that failed is being undone";
        to.register("stillpoint_jobs", help, numbers.jobs.family.clone());
        let help = "Jobs that have ended, by kind and outcome (done, undone). Seen at scrapes: scrape at least each 10 minutes";
        to.register("stillpoint_jobs_ended", help, numbers.jobs_ended.clone());
        let help = "From asking for a job to its end, by kind; as stillpoint_jobs_ended";
        to.register("stillpoint_job_seconds", help, numbers.job_seconds.clone());
        let help = "Backups that have not ended, by phase";
        to.register("stillpoint_backups", help, numbers.backups.family.clone());
        let help = "Image transfers that have not ended, by phase";
        to.register("stillpoint_transfers", help, numbers.transfers.family.clone());
        let help =
            "Bytes of disks that clients have read and written, by direction; zeroes that were only told are written";
        to.register("stillpoint_transfer_bytes", help, numbers.moved.clone());
        let help = "Events, by severity (normal, warning, error, alert)";
        to.register("stillpoint_events", help, numbers.events.clone());
        let help = "Bytes that are free in the storage domain";
        to.register("stillpoint_storage_free_bytes", help, numbers.free.clone());
        let help = "Bytes that are in use in the storage domain's file system, by anything";
        to.register("stillpoint_storage_used_bytes", help, numbers.used.clone());
        let help = "Bytes that disks may grow to: the sum of their virtual sizes";
        to.register("stillpoint_storage_committed_bytes", help, numbers.committed.clone());
        let help = "Requests that were answered, by family (ovirt, volume, data, data_local: over the unix socket; native, console, \
                    daemon, other) and status";
        to.register("stillpoint_http_requests", help, numbers.requests.clone());
        let help = "Time until an answer begins, by family";
        to.register("stillpoint_http_request_seconds", help, numbers.request_seconds.clone());
        let help = "SQL statements, those that begin and end transactions among them";
        to.register("stillpoint_store_statements", help, numbers.statements.clone());
        let help = "Durable commits: fewer than writes when they come together";
        to.register("stillpoint_store_commits", help, numbers.commits.clone());
        let help = "Time that durable commits took; divided by their number it is what a write waits for the disk";
        to.register("stillpoint_store_commit_seconds", help, numbers.commit_seconds.clone());
        let help = "Resident memory of the daemon";
        to.register("process_resident_memory_bytes", help, numbers.memory.clone());
        let started = Gauge::<f64, AtomicU64>::default();
        started.set(Duration::from_micros(now_micros().unsigned_abs()).as_secs_f64());
        let help = "When the daemon started, in seconds since 1970";
        to.register("process_start_time_seconds", help, started);
        numbers.registry = registry;
        numbers
    }

    /// A request was answered.
    pub(super) fn answered(&self, family: &'static str, status: u16, after: Duration) {
        let label = [("family", family.to_owned()), ("status", status.to_string())];
        self.requests.get_or_create(&label).inc();
        self.request_seconds
            .get_or_create(&one("family", family))
            .observe(after.as_secs_f64());
    }

    /// Reads what is kept elsewhere, and tells everything.
    pub(super) async fn tell(&self, sources: &Sources, who: &Caller) -> Result<String> {
        // One scrape at a time: each goes on from where the last one was.
        let mut state = self.state.lock().await;
        self.catalogue(sources, &mut state).await?;
        let (mut free, mut used, mut committed) = (0, 0, 0);
        for domain in sources
            .engine
            .domains(who)
            .await
            .map_err(|fault| anyhow::anyhow!(fault.log_chain()))?
        {
            free += domain.available_bytes;
            used += domain.used_bytes;
            committed += domain.committed_bytes;
        }
        self.free.set(gauge(free));
        self.used.set(gauge(used));
        self.committed.set(gauge(committed));
        for stall in sources.engine.take_stalls() {
            self.stall.observe(stall.as_secs_f64());
        }
        let (read, written) = sources.data_plane.moved_bytes();
        up_to(&self.moved.get_or_create(&one("direction", "read")), read);
        up_to(&self.moved.get_or_create(&one("direction", "written")), written);
        up_to(&self.statements, sources.store.statements());
        up_to(&self.commits, sources.store.commits());
        let spent = sources.store.committing().as_secs_f64() - self.commit_seconds.get();
        self.commit_seconds.inc_by(spent.max(0.0));
        if let Some(bytes) = resident_bytes() {
            self.memory.set(gauge(bytes));
        }
        drop(state);
        self.text()
    }

    /// With one sample of each, so that all are told.
    #[cfg(test)]
    pub(crate) fn with_samples() -> Self {
        let numbers = Self::new();
        numbers.answered("ovirt", 200, Duration::ZERO);
        let two = |first, second| [(first, String::new()), (second, String::new())];
        numbers.by_status.set([(one("status", ""), 0)]);
        numbers.jobs.set([(two("kind", "state"), 0)]);
        numbers.jobs_ended.get_or_create(&two("kind", "outcome")).inc();
        numbers.job_seconds.get_or_create(&one("kind", "")).observe(0.0);
        numbers.backups.set([(one("phase", ""), 0)]);
        numbers.transfers.set([(one("phase", ""), 0)]);
        numbers.moved.get_or_create(&one("direction", "")).inc();
        numbers.events.get_or_create(&one("severity", "")).inc();
        numbers
    }

    pub(crate) fn text(&self) -> Result<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    async fn catalogue(&self, sources: &Sources, state: &mut State) -> Result<()> {
        let (begun, seen) = (state.begun, state.seen);
        let read_at = now_micros();
        let read = move |conn: &stillpoint_store::Conn| {
            let seen = match seen {
                Some(seen) => seen,
                None => Seen {
                    event: numbers::event_before(conn, begun)?,
                    ended: begun,
                },
            };
            numbers::read(conn, seen)
        };
        let found: numbers::Numbers = sources.store.read::<_, stillpoint_store::StoreError, _>(read).await?;
        self.vms.set(gauge(found.vms.iter().map(|(_, count)| count).sum()));
        self.running.set(gauge(found.running));
        self.by_status.set(labelled("status", found.vms));
        self.frozen.set(gauge(found.frozen));
        self.disks.set(gauge(found.disks));
        self.snapshots.set(gauge(found.snapshots));
        let jobs = found.jobs.into_iter();
        self.jobs
            .set(jobs.map(|(kind, state, count)| ([("kind", kind), ("state", state)], count)));
        self.backups.set(labelled("phase", found.backups));
        self.transfers.set(labelled("phase", found.transfers));
        for (severity, count) in found.events {
            self.events.get_or_create(&one("severity", severity)).inc_by(count);
        }
        self.ended(&found.ended, state);
        state.seen = Some(Seen {
            event: found.newest_event,
            ended: begun.max(read_at - OVERLAP),
        });
        Ok(())
    }

    fn ended(&self, ended: &[Ended], state: &mut State) {
        for job in ended.iter().filter(|job| !state.counted.contains(&job.id)) {
            let label = [("kind", job.kind.clone()), ("outcome", job.state.clone())];
            self.jobs_ended.get_or_create(&label).inc();
            let took = Duration::from_micros(u64::try_from(job.took).unwrap_or_default());
            self.job_seconds
                .get_or_create(&one("kind", job.kind.clone()))
                .observe(took.as_secs_f64());
        }
        state.counted = ended.iter().map(|job| job.id.clone()).collect();
    }
}

fn labelled(name: &'static str, counts: Vec<Count>) -> impl Iterator<Item = (One, u64)> {
    counts.into_iter().map(move |(value, count)| (one(name, value), count))
}

/// `VmRSS` of `/proc/self/status` (proc(5)), which is in KiB.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace()
        .next()?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}
