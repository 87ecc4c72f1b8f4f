//! Starts, finds and ends processes, and knows the connected ones.
//!
//! The registry holds connections only: dropping it leaves every process running, and a new one finds them again by
//! record ([`Hypervisor::adopt`]) or by run directory ([`Hypervisor::find`]). Two tasks never start the same machine
//! at once: each VM has a turn.

use crate::{
    layout::{Layout, RunDir},
    machine::{self, QemuMachine, command_line, run_state},
    monitor::Monitor,
    probe::{Accel, Probed, probe},
    process::{self, Process},
    rest::{self, AtRest, Purpose},
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use stillpoint_engine::ports::{
    Chain, Driven, DriverError, DriverErrorKind, Endpoint, Export, Exported, Hypervisor, Machine, MachineEvent,
    MachineSpec, ProcessRecord, RunState,
};
use stillpoint_types::{JobId, VmId};
use tokio::{sync::broadcast, time::Instant};
use tokio_util::task::AbortOnDropHandle;

const START: &str = "start machine";
/// From the start of a process until its monitor answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Events that a slow listener may lag behind.
const EVENTS_KEPT: usize = 256;
/// Before a monitor that could not be reached is tried again for its events.
const RECONNECT_PAUSE: Duration = Duration::from_secs(2);

/// How the driver is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The daemon's data directory; run-time files go below `run/` in it. Its name must be short (unix sockets).
    pub data_dir: PathBuf,
    /// Accelerator of new machines.
    pub accel: Accel,
    /// Deadline of one monitor command.
    pub command_limit: Duration,
    /// `qemu-system-x86_64`, by name or path.
    pub qemu: PathBuf,
    /// `qemu-storage-daemon`, by name or path.
    pub storage_daemon: PathBuf,
}

impl Config {
    /// The usual setup for a data directory.
    #[must_use]
    pub fn new(data_dir: PathBuf, accel: Accel) -> Self {
        Self {
            data_dir,
            accel,
            command_limit: Duration::from_secs(20),
            qemu: PathBuf::from("qemu-system-x86_64"),
            storage_daemon: PathBuf::from("qemu-storage-daemon"),
        }
    }
}

/// The driver.
#[derive(Debug)]
pub struct Qemu {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    layout: Layout,
    probed: Probed,
    machines: Mutex<HashMap<VmId, Connected>>,
    turns: Mutex<HashMap<VmId, Arc<tokio::sync::Mutex<()>>>>,
    at_rest: Mutex<HashMap<JobId, Arc<AtRest>>>,
    /// Per job, so that a storage daemon that hangs holds up nobody else's.
    rest_turns: Mutex<HashMap<JobId, Arc<tokio::sync::Mutex<()>>>>,
    events: broadcast::Sender<MachineEvent>,
}

#[derive(Debug)]
struct Connected {
    machine: Arc<QemuMachine>,
    _watcher: AbortOnDropHandle<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section is one call on a map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Qemu {
    /// Looks what this host can do and prepares the run directories. Also gives a sentence on that for the log.
    ///
    /// # Errors
    /// `Unsupported` naming the missing package, or for a data directory whose name is too long for unix sockets.
    pub async fn new(config: Config) -> Driven<(Self, String)> {
        let layout = Layout::new(&config.data_dir)?;
        let probed = probe(&config.qemu, &config.storage_daemon, config.accel).await?;
        let sentence = probed.sentence.clone();
        let inner = Arc::new(Inner {
            config,
            layout,
            probed,
            machines: Mutex::default(),
            turns: Mutex::default(),
            at_rest: Mutex::default(),
            rest_turns: Mutex::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
        });
        Ok((Self { inner }, sentence))
    }
}

impl Inner {
    fn turn(&self, vm: VmId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.turns).entry(vm).or_default())
    }

    fn connected(&self, vm: VmId) -> Option<Arc<QemuMachine>> {
        lock(&self.machines).get(&vm).map(|c| Arc::clone(&c.machine))
    }

    /// Takes the machine in and watches it.
    fn register(self: &Arc<Self>, vm: VmId, machine: Arc<QemuMachine>) {
        let watcher = tokio::spawn(watch(Arc::downgrade(self), vm, Arc::clone(&machine)));
        let record = machine.process.record().clone();
        let connected = Connected {
            machine,
            _watcher: AbortOnDropHandle::new(watcher),
        };
        let before = lock(&self.machines).insert(vm, connected);
        if before.is_some_and(|before| *before.machine.process.record() != record) {
            // Its watcher was not as fast as the start of its successor, and is aborted now.
            let _nobody_listens = self.events.send(MachineEvent::Exited(vm));
        }
    }

    /// Connects to a process, or `Timeout` if it does not answer.
    async fn connect(&self, vm: VmId, process: Process) -> Driven<Arc<QemuMachine>> {
        let machine = QemuMachine::new(process, &self.layout.vm(vm), self.config.command_limit);
        await_monitor(&machine.monitor, &machine.process, &self.layout.vm(vm), START).await?;
        Ok(Arc::new(machine))
    }

    async fn start(self: &Arc<Self>, spec: &MachineSpec) -> Driven<ProcessRecord> {
        let vm = spec.vm;
        let run_dir = self.layout.vm(vm);
        let turn = self.turn(vm);
        let _turn = turn.lock().await;
        if let Some(process) = process::find(&run_dir)? {
            let record = process.record().clone();
            let machine = match self.connected(vm).filter(|m| *m.process.record() == record) {
                Some(machine) => machine,
                None => {
                    let machine = self.connect(vm, process).await?;
                    self.register(vm, Arc::clone(&machine));
                    machine
                }
            };
            if spec.resume.is_none() || machine.run_state().await? != RunState::Incoming {
                return Ok(record);
            }
            // An earlier start died while it loaded the memory: no vCPU has run, so begin anew.
            machine.kill(self.config.command_limit).await?;
        }
        let arguments = command_line::arguments(spec, &run_dir, self.probed.accelerator)?;
        run_dir.prepare()?;
        let process = process::spawn(&self.config.qemu, &arguments, &[], &run_dir, Stdio::null())?;
        let record = process.record().clone();
        match self.bring_up(spec, process.clone()).await {
            Ok(machine) => {
                self.register(vm, machine);
                Ok(record)
            }
            Err(error) => {
                process.kill()?;
                process.ended().await;
                Err(error)
            }
        }
    }

    async fn bring_up(&self, spec: &MachineSpec, process: Process) -> Driven<Arc<QemuMachine>> {
        let machine = self.connect(spec.vm, process).await?;
        if let Some(memory) = &spec.resume {
            machine::load(&machine.monitor, memory).await?;
        }
        Ok(machine)
    }

    fn rest_turn(&self, owner: JobId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.rest_turns).entry(owner).or_default())
    }

    /// The storage daemon of a job, connected: known, found, or `None`.
    async fn find_at_rest(&self, owner: JobId) -> Driven<Option<Arc<AtRest>>> {
        let run_dir = self.layout.rest(owner);
        let Some(process) = process::find(&run_dir)? else {
            drop(lock(&self.at_rest).remove(&owner));
            return Ok(None);
        };
        let known = lock(&self.at_rest).get(&owner).map(Arc::clone);
        if let Some(at_rest) = known.filter(|at_rest| at_rest.process().record() == process.record()) {
            return Ok(Some(at_rest));
        }
        let monitor = Monitor::new(run_dir.qmp(), self.config.command_limit);
        let at_rest = Arc::new(AtRest::new(process, monitor));
        await_monitor(at_rest.monitor(), at_rest.process(), &run_dir, "find storage daemon").await?;
        drop(lock(&self.at_rest).insert(owner, Arc::clone(&at_rest)));
        Ok(Some(at_rest))
    }

    async fn start_at_rest(&self, owner: JobId, purpose: Purpose) -> Driven<Arc<AtRest>> {
        let run_dir = self.layout.rest(owner);
        run_dir.prepare()?;
        let (socket, first) = rest::listen(&run_dir)?;
        let arguments = rest::arguments(&run_dir, purpose)?;
        let process = process::spawn(
            &self.config.storage_daemon,
            &arguments,
            &rest::SETTINGS,
            &run_dir,
            socket,
        )?;
        let monitor = Monitor::over(run_dir.qmp(), self.config.command_limit, first);
        let at_rest = Arc::new(AtRest::new(process, monitor));
        await_monitor(at_rest.monitor(), at_rest.process(), &run_dir, "start storage daemon").await?;
        Ok(at_rest)
    }

    /// The caller has the owner's turn.
    async fn close_at_rest(&self, owner: JobId) -> Driven<()> {
        if let Some(at_rest) = self.find_at_rest(owner).await? {
            at_rest.quit().await?;
            drop(lock(&self.at_rest).remove(&owner));
        }
        self.layout.rest(owner).remove()
    }

    /// After a failure whose cause is told to the caller. The caller has the owner's turn.
    async fn give_up_at_rest(&self, owner: JobId) {
        if let Err(left) = self.close_at_rest(owner).await {
            tracing::warn!(%owner, error = left.chain(), "storage daemon left running");
        }
    }

    async fn close_in_turn(&self, owner: JobId) -> Driven<()> {
        let turn = self.rest_turn(owner);
        let guard = turn.lock().await;
        let closed = self.close_at_rest(owner).await;
        drop(guard);
        let mut turns = lock(&self.rest_turns);
        // The map's and ours: nobody waits for this turn.
        let forgotten = if Arc::strong_count(&turn) == 2 {
            turns.remove(&owner)
        } else {
            None
        };
        drop((turns, forgotten));
        closed
    }
}

/// Waits until the monitor answers, the process ends, or the deadline.
///
/// Tried again and again: the kernel tells nobody when a socket that is there begins to listen.
async fn await_monitor(monitor: &Monitor, process: &Process, run_dir: &RunDir, op: &'static str) -> Driven<()> {
    let end = Instant::now() + START_LIMIT;
    let mut pause = Duration::from_millis(2);
    loop {
        match monitor.ready(op).await {
            Err(error) if error.kind == DriverErrorKind::Disconnected && Instant::now() < end => {}
            other => return other,
        }
        if process.ended_within(pause).await {
            let log = run_dir.log_tail();
            let kind = match crate::failure::kind_of_text("", &log) {
                DriverErrorKind::Protocol => DriverErrorKind::Disconnected,
                kind => kind,
            };
            let why = if log.is_empty() { "it wrote no reason" } else { &log };
            return Err(DriverError::new(kind, op, format!("it ended at once: {why}")));
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Turns what one machine's monitor and pidfd tell into events, until its process has ended.
async fn watch(inner: Weak<Inner>, vm: VmId, machine: Arc<QemuMachine>) {
    let tell = |event| {
        if let Some(inner) = inner.upgrade() {
            let _nobody_listens = inner.events.send(event);
        }
    };
    loop {
        tokio::select! {
            () = machine.process.ended() => break,
            () = relay(vm, &machine, &tell) => {}
        }
        // The connection is lost, or the process stopped. Events are only wake-ups: trying again can wait.
        if machine.process.ended_within(RECONNECT_PAUSE).await {
            break;
        }
    }
    if let Some(inner) = inner.upgrade() {
        let mut machines = lock(&inner.machines);
        let own = machines.get(&vm).is_some_and(|c| Arc::ptr_eq(&c.machine, &machine));
        let gone = if own { machines.remove(&vm) } else { None };
        drop(machines);
        tell(MachineEvent::Exited(vm));
        drop(gone); // Aborts this very task, which has nothing left to do.
    }
}

/// Until the connection ends.
async fn relay(vm: VmId, machine: &QemuMachine, tell: &impl Fn(MachineEvent)) {
    let Ok(mut events) = machine.monitor.events("watch machine").await else {
        return;
    };
    loop {
        let name = match events.recv().await {
            Ok(event) if event.name == "BLOCK_IO_ERROR" => {
                let text = |member| event.text(member).unwrap_or("?").to_owned();
                let text = format!("{} of {}: {}", text("operation"), text("node-name"), text("reason"));
                tell(MachineEvent::IoError(vm, text));
                event.name
            }
            Ok(event) => event.name,
            Err(broadcast::error::RecvError::Lagged(_)) => "STOP".to_owned(),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if matches!(name.as_str(), "STOP" | "RESUME" | "SHUTDOWN" | "GUEST_PANICKED")
            && let Ok(status) = machine.monitor.status("watch machine").await
        {
            tell(MachineEvent::Changed(vm, run_state(&status)));
        }
    }
}

#[async_trait]
impl Hypervisor for Qemu {
    async fn start(&self, spec: &MachineSpec) -> Driven<ProcessRecord> {
        self.inner.start(spec).await
    }

    async fn adopt(&self, vm: VmId, record: &ProcessRecord) -> Driven<bool> {
        let turn = self.inner.turn(vm);
        let _turn = turn.lock().await;
        let Some(process) = Process::open(record)? else {
            return Ok(false);
        };
        if let Some(machine) = self.inner.connected(vm).filter(|m| m.process.record() == record) {
            return machine.run_state().await.map(|_| true);
        }
        match self.inner.connect(vm, process.clone()).await {
            Ok(machine) => {
                self.inner.register(vm, machine);
                Ok(true)
            }
            // It ended while we were connecting.
            Err(_) if process.ended_within(Duration::ZERO).await => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn find(&self, vm: VmId) -> Driven<Option<ProcessRecord>> {
        let process = process::find(&self.inner.layout.vm(vm))?;
        Ok(process.map(|process| process.record().clone()))
    }

    async fn destroy(&self, vm: VmId) -> Driven<()> {
        const OP: &str = "end machine";
        if let Some(process) = process::find(&self.inner.layout.vm(vm))? {
            process.kill()?;
            if !process.ended_within(self.inner.config.command_limit).await {
                let text = format!(
                    "process {} does not end even by SIGKILL: its storage hangs",
                    process.record().pid
                );
                return Err(DriverError::new(DriverErrorKind::Timeout, OP, text));
            }
        }
        Ok(())
    }

    fn machine(&self, vm: VmId) -> Option<Arc<dyn Machine>> {
        self.inner.connected(vm).map(|machine| machine as Arc<dyn Machine>)
    }

    async fn open_at_rest(&self, owner: JobId, chains: &[Chain]) -> Driven<Arc<dyn Endpoint>> {
        let turn = self.inner.rest_turn(owner);
        let _turn = turn.lock().await;
        let at_rest = match self.inner.find_at_rest(owner).await? {
            Some(at_rest) => at_rest,
            None => self.inner.start_at_rest(owner, Purpose::Work).await?,
        };
        drop(lock(&self.inner.at_rest).insert(owner, Arc::clone(&at_rest)));
        if let Err(error) = at_rest.open(chains).await {
            self.inner.give_up_at_rest(owner).await;
            return Err(error);
        }
        Ok(at_rest)
    }

    async fn open_export(&self, owner: JobId, export: &Export) -> Driven<Exported> {
        let turn = self.inner.rest_turn(owner);
        let _turn = turn.lock().await;
        let found = self.inner.find_at_rest(owner).await?;
        let is_found = found.is_some();
        let at_rest = match found {
            Some(at_rest) => at_rest,
            None => self.inner.start_at_rest(owner, Purpose::Serve).await?,
        };
        drop(lock(&self.inner.at_rest).insert(owner, Arc::clone(&at_rest)));
        match at_rest.export(export).await {
            Ok(name) => Ok(Exported {
                socket: self.inner.layout.rest(owner).nbd(),
                name: name.to_owned(),
                process: at_rest.process().record().clone(),
            }),
            Err(error) => {
                // One that was there before may serve somebody: its owner ends it when he is done.
                if !is_found {
                    self.inner.give_up_at_rest(owner).await;
                }
                Err(error)
            }
        }
    }

    async fn close_at_rest(&self, owner: JobId) -> Driven<()> {
        self.inner.close_in_turn(owner).await
    }

    async fn sweep_at_rest(&self, live: &[JobId]) -> Driven<()> {
        let mut first_failure = Ok(());
        for owner in self.inner.layout.rest_owners()? {
            if !live.contains(&owner) {
                // One that does not end must not keep the others.
                let closed = self.inner.close_in_turn(owner).await;
                first_failure = first_failure.and(closed);
            }
        }
        first_failure
    }

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.inner.events.subscribe()
    }

    fn default_machine(&self) -> String {
        self.inner.probed.default_machine.clone()
    }

    fn accelerator(&self) -> &'static str {
        self.inner.probed.accelerator
    }

    fn version(&self) -> String {
        self.inner.probed.version.clone()
    }
}
