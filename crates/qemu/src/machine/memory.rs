//! Saving a guest's memory at the very instant of a disk switch, and loading it again.
//!
//! ```text
//! Background: stop -> switch -> migrate (background-snapshot) -> device state is saved, vCPUs run again -> RAM is saved
//! Stopped:    stop -> switch -> migrate -> RAM is saved -> cont
//! ```
//!
//! No freeze: the restored guest would wake up frozen.
//!
//! QEMU writes through `exec:` into a shell that renames `FILE.part` to `FILE.whole` only if `cat` wrote everything: QEMU
//! itself does not notice when the last bytes, already in the pipe, meet a full disk. `FILE` itself appears only once
//! it is durable, so its being there means a saved memory.
//!
//! A background save must never fail or be cancelled in QEMU: 7.2 then leaves the guest's RAM write-protected with nobody
//! to serve the faults, and the guest hangs for good though the monitor calls it running (measured for a cancel; what
//! ends the protection, `ram_write_tracking_stop`, is called on the way of success only). So when the file cannot be written the
//! shell goes on reading into `/dev/null`, and cancelling is to let QEMU end and to drop the file.
//!
//! The daemon may die at any time: `query-migrate` tells the outcome, `query-migrate-capabilities` the method.

use super::QemuMachine;
use crate::{
    failure::{io_failed, qmp_failed},
    layout::utf8,
    monitor::{Monitor, wake},
    switch::{joined, nothing_done, plan},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};
use stillpoint_engine::ports::{
    Driven, DriverError, DriverErrorKind, Machine as _, MemoryMethod, MemoryRef, MemorySave, Progress, RunState,
    Switch, SwitchReport,
};
use stillpoint_types::crash_point;
use tokio::{task::spawn_blocking, time::Instant};

/// Suffixes of what a save has beside its file until it is published, in the order in which they are to be removed.
pub(crate) const PARTS: [&str; 3] = [".part", ".whole", ".broken"];
const SAVE: &str = "save memory";
const LOAD: &str = "load memory";
/// As fast as storage takes it: the default would limit the save to 128 MiB/s.
const BANDWIDTH_BYTES_MAX: u64 = 1 << 40;
/// Longest time from `migrate` until a background save lets the guest run again (it saves the device state only).
const DEVICES_LIMIT: Duration = Duration::from_secs(30);
/// How often progress is told (and the monitor seen to be alive) when no event comes.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);
/// Longest time between QEMU's end of writing and the shell's rename.
const WRITER_LIMIT: Duration = Duration::from_secs(60);
/// Longest time that a load may make no progress.
const LOAD_LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, Deserialize)]
struct Migration {
    status: Option<String>,
    ram: Option<Ram>,
    #[serde(rename = "error-desc")]
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Ram {
    transferred: u64,
    total: u64,
}

/// Where the save stands.
///
/// A machine that was itself resumed reports its own loading as `completed`, without `ram`: that is no save.
pub(super) async fn state(monitor: &Monitor) -> Driven<MemorySave> {
    let migration: Migration = monitor.call(SAVE, "query-migrate", json!({})).await?;
    let text = || {
        migration
            .error
            .clone()
            .unwrap_or_else(|| "QEMU gives no reason".to_owned())
    };
    Ok(match migration.status.as_deref() {
        None | Some("none") => MemorySave::None,
        Some("completed") if migration.ram.is_none() => MemorySave::None,
        Some("completed") => MemorySave::Completed,
        Some("failed") => MemorySave::Failed(text()),
        Some("cancelled") => MemorySave::Failed("it was cancelled".to_owned()),
        Some(_) => {
            let (done, total) = migration.ram.map_or((0, 0), |ram| (ram.transferred, ram.total));
            MemorySave::Running(done, total)
        }
    })
}

fn beside(memory: &MemoryRef, suffix: &str) -> PathBuf {
    let mut name = OsString::from(memory.path.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}

/// Within single quotes the shell leaves everything alone but the quote itself.
fn quoted(path: &Path) -> Driven<String> {
    Ok(format!("'{}'", utf8(SAVE, path)?.replace('\'', r"'\''")))
}

fn remove(path: &Path) -> Driven<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_failed(SAVE, path, e)),
        _ => Ok(()),
    }
}

fn remove_parts(memory: &MemoryRef) -> Driven<()> {
    PARTS.iter().try_for_each(|suffix| remove(&beside(memory, suffix)))
}

/// QEMU's `exec:` address that writes `memory`, or drops what it cannot write.
fn writer(memory: &MemoryRef) -> Driven<String> {
    let part = quoted(&beside(memory, ".part"))?;
    let (whole, broken) = (quoted(&beside(memory, ".whole"))?, quoted(&beside(memory, ".broken"))?);
    // `true`, not `:`: a failed redirection of a special built-in would end the shell, and with it QEMU's pipe.
    Ok(format!(
        "exec:umask 077; if cat > {part}; then mv {part} {whole}; \
         else rm -f {part}; true > {broken}; cat > /dev/null; fi"
    ))
}

/// Waits for the shell's verdict. There is no event for it: QEMU does not wait for its child before it reports.
async fn whole_file(memory: &MemoryRef) -> Driven<bool> {
    let end = Instant::now() + WRITER_LIMIT;
    loop {
        if beside(memory, ".whole").exists() {
            return Ok(true);
        }
        if beside(memory, ".broken").exists() || !beside(memory, ".part").exists() {
            // Renamed between the two looks?
            return Ok(beside(memory, ".whole").exists());
        }
        if Instant::now() >= end {
            return Err(DriverError::new(
                DriverErrorKind::Timeout,
                SAVE,
                "the writer does not end",
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Durable, and only then under its name.
async fn publish(memory: &MemoryRef) -> Driven<()> {
    let (from, to) = (beside(memory, ".whole"), memory.path.clone());
    let work = spawn_blocking(move || {
        File::open(&from)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&from, &to))
            .and_then(|()| File::open(to.parent().unwrap_or(Path::new("/")))?.sync_all())
            .map_err(|e| io_failed(SAVE, &to, e))
    });
    joined(work.await)?
}

/// Sets what a save needs. `Ok(false)`: this host refuses background snapshots.
async fn prepare(monitor: &Monitor, background: bool) -> Driven<bool> {
    let capability = |name: &str, state: bool| json!({"capability": name, "state": state});
    let set = async |background: bool| {
        let list = json!({"capabilities": [capability("events", true), capability("background-snapshot", background)]});
        monitor.run(SAVE, "migrate-set-capabilities", list).await
    };
    let bandwidth = json!({"max-bandwidth": BANDWIDTH_BYTES_MAX});
    monitor.run(SAVE, "migrate-set-parameters", bandwidth).await?;
    if background {
        match set(true).await {
            Ok(()) => return Ok(true),
            Err(error) if error.kind == DriverErrorKind::Protocol => {
                tracing::info!(
                    error = error.chain(),
                    "no background snapshot here: the guest stops for the save"
                );
            }
            Err(error) => return Err(error),
        }
    }
    set(false).await.map(|()| false)
}

async fn is_background(monitor: &Monitor) -> Driven<bool> {
    #[derive(Deserialize)]
    struct Capability {
        capability: String,
        state: bool,
    }
    let list: Vec<Capability> = monitor.call(SAVE, "query-migrate-capabilities", json!({})).await?;
    Ok(list.iter().any(|c| c.capability == "background-snapshot" && c.state))
}

impl QemuMachine {
    /// See [`stillpoint_engine::ports::Machine::switch_and_save`].
    pub(super) async fn begin_save(
        &self,
        switch: &Switch,
        memory: &MemoryRef,
    ) -> Driven<(SwitchReport, MemoryMethod, Option<String>)> {
        let turn = self.blocks.turn(SAVE).await?;
        let Some(transaction) = plan(self.blocks.observe_tops(), switch).await? else {
            return self.begun_before(memory).await;
        };
        if let MemorySave::Running(..) = state(&self.monitor).await? {
            return Err(DriverError::new(DriverErrorKind::Busy, SAVE, "a save is under way"));
        }
        let running = match self.run_state().await? {
            RunState::Running => true,
            RunState::Paused => false,
            other => {
                let text = format!("the machine is {other:?}");
                return Err(DriverError::new(DriverErrorKind::Unsupported, SAVE, text));
            }
        };
        // A background save starts the vCPUs by itself, which a paused guest must not see.
        let background = prepare(&self.monitor, running).await?;
        let method = if background {
            MemoryMethod::Background
        } else {
            MemoryMethod::Stopped
        };
        self.paused_before.store(!running, Ordering::SeqCst);
        self.cancelled.store(false, Ordering::SeqCst);
        remove_parts(memory)?;
        remove(&memory.path)?;
        let window = Window {
            qmp: self.monitor.qmp().await.map_err(|e| qmp_failed(SAVE, "monitor", e))?,
            transaction,
            migrate: json!({"uri": writer(memory)?}),
            running,
            background,
        };
        let task = tokio::spawn(async move {
            let result = window.run().await;
            drop(turn);
            result
        });
        let (report, failure) = joined(task.await)??;
        Ok((report, method, failure))
    }

    /// All disks are switched already, by an earlier try that was interrupted. If its save had begun, that goes on. Else
    /// the memory of that instant is gone: a later one does not fit to the disks and is not saved. (The interruption
    /// may have left the vCPUs stopped; only the core knows whether they should run.)
    async fn begun_before(&self, memory: &MemoryRef) -> Driven<(SwitchReport, MemoryMethod, Option<String>)> {
        let method = match is_background(&self.monitor).await? {
            true => MemoryMethod::Background,
            false => MemoryMethod::Stopped,
        };
        let begun = [".part", ".whole", ""]
            .iter()
            .any(|suffix| beside(memory, suffix).exists());
        let failure = match state(&self.monitor).await? {
            MemorySave::Running(..) | MemorySave::Completed if begun => None,
            _ => Some("the disks were switched earlier; the memory of that instant is gone".to_owned()),
        };
        Ok((nothing_done(), method, failure))
    }

    /// See [`stillpoint_engine::ports::Machine::finish_save`].
    pub(super) async fn end_save(&self, memory: &MemoryRef, progress: Progress<'_>) -> Driven<MemorySave> {
        let end = self.save_end(progress).await?;
        let background = is_background(&self.monitor).await?;
        if background && matches!(end, MemorySave::Failed(_)) {
            tracing::error!("a background save failed inside QEMU: the guest may hang until it is restarted");
        }
        if end != MemorySave::None && !(background && end == MemorySave::Completed) {
            self.run_again().await?;
        }
        let end = match end {
            MemorySave::Completed if self.cancelled.load(Ordering::SeqCst) => {
                MemorySave::Failed("it was cancelled".to_owned())
            }
            MemorySave::Completed if memory.path.exists() => MemorySave::Completed, // An earlier try got this far.
            MemorySave::Completed if whole_file(memory).await? => {
                publish(memory).await?;
                MemorySave::Completed
            }
            MemorySave::Completed => MemorySave::Failed("the memory file could not be written".to_owned()),
            other => other,
        };
        if end != MemorySave::Completed {
            remove_parts(memory)?;
        }
        Ok(end)
    }

    /// See [`stillpoint_engine::ports::Machine::cancel_save`].
    pub(super) async fn stop_save(&self) -> Driven<()> {
        if let MemorySave::Running(..) = state(&self.monitor).await? {
            self.cancelled.store(true, Ordering::SeqCst);
            let background = is_background(&self.monitor).await?;
            if !background {
                self.monitor.run("cancel save", "migrate_cancel", json!({})).await?;
            }
            self.save_end(&|_, _| ()).await?;
            if !background {
                self.run_again().await?;
            }
        }
        Ok(())
    }

    /// Waits until no save is under way.
    async fn save_end(&self, progress: Progress<'_>) -> Driven<MemorySave> {
        let mut events = self.monitor.events(SAVE).await?;
        loop {
            match state(&self.monitor).await? {
                MemorySave::Running(done, total) => progress(done, total),
                end => return Ok(end),
            }
            let next = Instant::now() + PROGRESS_PERIOD;
            wake(&mut events, next, SAVE, |event| event.name == "MIGRATION").await?;
        }
    }

    /// After a save: the vCPUs run, but for those that were paused before it. (Only a `cont` takes the disks back that
    /// QEMU gave up at the end of a save, so these run for a moment.)
    async fn run_again(&self) -> Driven<()> {
        if self.run_state().await? != RunState::Paused {
            return Ok(());
        }
        self.cont().await?;
        if self.paused_before.swap(false, Ordering::SeqCst) {
            self.pause().await?;
        }
        Ok(())
    }
}

/// Stop, switch, begin to save. In a task of its own: a caller that goes away cannot leave the guest stopped.
struct Window {
    qmp: std::sync::Arc<crate::qmp::Qmp>,
    transaction: Value,
    migrate: Value,
    running: bool,
    background: bool,
}

impl Window {
    async fn run(self) -> Driven<(SwitchReport, Option<String>)> {
        let failed = |error| qmp_failed(SAVE, "window", error);
        let mut events = self.qmp.subscribe().map_err(failed)?;
        let begun = Instant::now();
        if self.running
            && let Err(error) = self.qmp.run("stop", json!({})).await
        {
            self.cont().await; // It may be executed late.
            return Err(failed(error));
        }
        crash_point(&["save", "stopped"]);
        let sent = Instant::now();
        let mut report = nothing_done();
        if let Err(error) = self.qmp.run("transaction", self.transaction.clone()).await {
            self.cont().await;
            return Err(qmp_failed(SAVE, "transaction", error));
        }
        report.transaction_us = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
        crash_point(&["save", "switched"]);
        let mut failure = self
            .qmp
            .run("migrate", self.migrate.clone())
            .await
            .err()
            .map(|e| e.to_string());
        crash_point(&["save", "saving"]);
        if failure.is_none() && self.background {
            failure = self
                .wait_resumed(&mut events, begun + DEVICES_LIMIT)
                .await
                .err()
                .map(|e| e.chain());
        }
        if failure.is_some() || self.background {
            self.cont().await;
        }
        Ok((report, failure))
    }

    /// Until QEMU has saved the devices' state: then it runs the vCPUs, or (newer QEMU) leaves them as they were.
    async fn wait_resumed(
        &self,
        events: &mut tokio::sync::broadcast::Receiver<crate::qmp::Event>,
        end: Instant,
    ) -> Driven<()> {
        let failed = |error| qmp_failed(SAVE, "query-migrate", error);
        loop {
            let migration: Migration = self.qmp.call("query-migrate", json!({})).await.map_err(failed)?;
            match migration.status.as_deref() {
                Some("active" | "completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    let text = migration.error.unwrap_or_else(|| "QEMU gives no reason".to_owned());
                    return Err(DriverError::new(DriverErrorKind::Protocol, SAVE, text));
                }
                _ if Instant::now() >= end => {
                    return Err(DriverError::new(
                        DriverErrorKind::Timeout,
                        SAVE,
                        "the device state is not saved",
                    ));
                }
                _ => {}
            }
            let next = end.min(Instant::now() + PROGRESS_PERIOD);
            wake(events, next, SAVE, |event| {
                event.name == "MIGRATION" || event.name == "RESUME"
            })
            .await?;
        }
    }

    /// Lets the vCPUs run if they ran before. A failure is logged: the caller sees the run state.
    async fn cont(&self) {
        if self.running
            && let Err(error) = self.qmp.run("cont", json!({})).await
        {
            tracing::error!(%error, "the guest stays stopped");
        }
    }
}

/// Loads a memory into a machine that was started with `-incoming defer -S`. The vCPUs stay stopped.
pub(crate) async fn load(monitor: &Monitor, memory: &MemoryRef) -> Driven<()> {
    if !memory.path.is_file() {
        let text = memory.path.display().to_string();
        return Err(DriverError::new(DriverErrorKind::NotFound, LOAD, text));
    }
    let mut events = monitor.events(LOAD).await?;
    let capabilities = json!({"capabilities": [{"capability": "events", "state": true}]});
    monitor.run(LOAD, "migrate-set-capabilities", capabilities).await?;
    let uri = format!("exec:cat {}", quoted(&memory.path)?);
    monitor.run(LOAD, "migrate-incoming", json!({"uri": uri})).await?;
    let end = Instant::now() + LOAD_LIMIT;
    loop {
        let migration: Migration = monitor.call(LOAD, "query-migrate", json!({})).await?;
        match migration.status.as_deref() {
            Some("completed") => break,
            Some("failed") => {
                let text = migration.error.unwrap_or_else(|| "QEMU gives no reason".to_owned());
                return Err(DriverError::new(DriverErrorKind::InvalidImage, LOAD, text));
            }
            _ if Instant::now() >= end => {
                return Err(DriverError::new(DriverErrorKind::Timeout, LOAD, "it does not end"));
            }
            _ => {}
        }
        let next = end.min(Instant::now() + PROGRESS_PERIOD);
        wake(&mut events, next, LOAD, |event| {
            event.name == "MIGRATION" || event.name == "STOP"
        })
        .await?;
    }
    // The last device state is applied after "completed" is reported.
    loop {
        if monitor.status(LOAD).await? != "inmigrate" {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(DriverError::new(DriverErrorKind::Timeout, LOAD, "it does not end"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
