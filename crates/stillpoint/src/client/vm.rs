//! `stillpoint vm ...`

mod clone;
mod guest;

use super::{
    Session, Trouble, find,
    plan::{Plan, Sure},
    session::Waiting,
    shown::{Shown, Watch, moment, note, or_dash},
    size,
};
use clap::{Args, Subcommand};
use std::{process::ExitCode, time::Duration};
use stillpoint_sdk::{
    GetOptions, ListOptions, VmService,
    types::{Cluster, Cpu, CpuTopology, Header, OperatingSystem, Template, Vm},
};

/// The template that has nothing.
const BLANK: &str = "00000000-0000-0000-0000-000000000000";

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum VmCommand {
    /// List the VMs.
    #[command(after_help = "Examples:
  stillpoint vm list
  stillpoint vm list --search 'status=up and name=db*'
  stillpoint vm list --watch                            again whenever something changes
  stillpoint vm list --json | jq -r '.[].id'")]
    List(List),
    /// Show one VM.
    #[command(after_help = "Examples:
  stillpoint vm show db1
  stillpoint vm show db1 --json")]
    Show(One),
    /// Make a VM. Its disks come later: `stillpoint disk create --vm`.
    #[command(after_help = "Examples:
  stillpoint vm create db1 --memory 2G --cpus 2
  stillpoint vm create db1 --kernel vmlinuz --initrd initramfs.img --cmdline 'console=ttyS0'
  stillpoint disk create db1_disk1 --size 10G --vm db1 --bootable")]
    Create(Create),
    /// Start a VM.
    #[command(after_help = "Examples:
  stillpoint vm start db1
  stillpoint vm start db1 --no-wait")]
    Start(Start),
    /// Pull a VM's plug: what the guest has not written to its disks is lost.
    #[command(after_help = "Examples:
  stillpoint vm stop db1
  stillpoint vm stop db1 --yes        without the question")]
    Stop(Destroy),
    /// Ask the guest to shut down.
    #[command(after_help = "Examples:
  stillpoint vm shutdown db1
  stillpoint vm shutdown db1 --timeout 60 || stillpoint vm stop db1 --yes")]
    Shutdown(Start),
    /// Ask the guest to restart.
    #[command(after_help = "Examples:
  stillpoint vm reboot db1")]
    Reboot(Start),
    /// Freeze the guest's file systems: what it writes waits until they are thawed. Its agent does it.
    #[command(after_help = "Examples:
  stillpoint vm freeze db1 && array-snapshot; stillpoint vm thaw db1")]
    Freeze(Start),
    /// Thaw the guest's file systems.
    #[command(after_help = "Examples:
  stillpoint vm thaw db1")]
    Thaw(Start),
    /// Make a new VM of a snapshot, without copying.
    #[command(after_help = "Examples:
  stillpoint vm clone db1 'before upgrade' --as db1-test")]
    Clone(clone::Clone),
    /// Delete a VM with its snapshots and disks.
    #[command(after_help = "Examples:
  stillpoint vm delete db1 --dry-run        what would be lost
  stillpoint vm delete db1 --keep-disks")]
    Delete(Delete),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    /// Only those that a query of the API's search language finds.
    #[arg(long, value_name = "QUERY")]
    search: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct One {
    /// Name or id of the VM.
    vm: String,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Create {
    /// Name of the new VM.
    name: String,
    /// Memory: bytes, or with K, M, G.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "1G")]
    memory: u64,
    /// Processors.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=512), default_value_t = 1)]
    cpus: i32,
    /// Boot this kernel, of the server's directory `boot`, instead of a disk.
    #[arg(long, value_name = "FILE")]
    kernel: Option<String>,
    /// The kernel's first file system.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<String>,
    /// The kernel's command line.
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    cmdline: Option<String>,
    /// Name of the cluster.
    #[arg(long, value_name = "NAME", default_value = "Default")]
    cluster: String,
    /// A text about it.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Start {
    /// Name or id of the VM.
    vm: String,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Destroy {
    /// Name or id of the VM.
    vm: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    destroy: Destroy,
    /// Keep the disks; their snapshots are gone all the same.
    #[arg(long)]
    keep_disks: bool,
}

pub(crate) async fn run(session: &Session, command: VmCommand) -> Result<ExitCode, Trouble> {
    match command {
        VmCommand::List(options) => list(session, &options).await,
        VmCommand::Show(options) => {
            options
                .watch
                .show(session, async || one(session, &options.vm).await)
                .await
        }
        VmCommand::Create(options) => create(session, options).await,
        VmCommand::Start(options) => start(session, &options).await,
        VmCommand::Stop(options) => stop(session, &options).await,
        VmCommand::Shutdown(options) => shutdown(session, &options).await,
        VmCommand::Reboot(options) => guest::reboot(session, &options).await,
        VmCommand::Freeze(options) => guest::freeze(session, &options).await,
        VmCommand::Thaw(options) => guest::thaw(session, &options).await,
        VmCommand::Clone(options) => clone::clone(session, &options).await,
        VmCommand::Delete(options) => delete(session, &options).await,
    }
}

/// The status of a VM.
pub(crate) fn status(vm: &Vm) -> &str {
    vm.status.as_deref().unwrap_or_default()
}

fn cpus(vm: &Vm) -> String {
    let topology = vm.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
    let product = |topology: &CpuTopology| {
        [topology.cores, topology.sockets, topology.threads]
            .into_iter()
            .flatten()
            .product::<i32>()
    };
    topology.map_or_else(|| "-".to_owned(), |topology| product(topology).to_string())
}

async fn list(session: &Session, options: &List) -> Result<ExitCode, Trouble> {
    let vms = session.system().vms_service();
    let wanted = match &options.search {
        Some(query) => ListOptions::new().search(query),
        None => ListOptions::new(),
    };
    let look = async || {
        let list = session.read(|| vms.list(wanted.clone())).await?;
        Shown::list(&list, &["NAME", "STATUS", "MEMORY", "CPUS", "ID"], |vm| {
            vec![
                or_dash(vm.head.name.as_deref()),
                or_dash(Some(status(vm))),
                size::shown(vm.memory),
                cpus(vm),
                or_dash(vm.head.id.as_deref()),
            ]
        })
    };
    options.watch.show(session, look).await
}

async fn one(session: &Session, wanted: &str) -> Result<Shown, Trouble> {
    let (_, service) = find::vm(session, wanted).await?;
    let follow = || GetOptions::new().follow("diskattachments.disk");
    let vm = session.read(|| service.get(follow())).await?;
    let disks = vm.disk_attachments.iter().flatten().map(|attachment| {
        let disk = attachment.disk.as_deref();
        let name = disk.and_then(|disk| disk.head.name.as_deref());
        let size = size::shown(disk.and_then(|disk| disk.provisioned_size));
        let bootable = if attachment.bootable == Some(true) {
            ", bootable"
        } else {
            ""
        };
        format!("{} ({size}{bootable})", or_dash(name))
    });
    let disks = disks.collect::<Vec<_>>().join(", ");
    let os = vm.os.as_ref();
    let at = |date: Option<i64>| date.map(moment);
    Shown::object(
        &vm,
        &[
            ("name", vm.head.name.clone()),
            ("id", vm.head.id.clone()),
            ("status", Some(status(&vm).to_owned())),
            ("detail", vm.status_detail.clone()),
            ("description", vm.head.description.clone()),
            ("memory", Some(size::shown(vm.memory))),
            ("cpus", Some(cpus(&vm))),
            ("disks", Some(disks)),
            ("kernel", os.and_then(|os| os.kernel.clone())),
            ("created", at(vm.creation_time.map(|date| date.0))),
            ("started", at(vm.start_time.map(|date| date.0))),
            ("stopped", at(vm.stop_time.map(|date| date.0))),
        ],
    )
}

async fn create(session: &Session, options: Create) -> Result<ExitCode, Trouble> {
    let mut cluster = Cluster::default();
    cluster.head.name = Some(options.cluster);
    let topology = CpuTopology {
        cores: Some(1),
        sockets: Some(options.cpus),
        threads: Some(1),
    };
    let failure = format!("the VM {:?} was not made", options.name);
    let vm = Vm {
        head: Header {
            name: Some(options.name),
            description: options.description,
            ..Header::default()
        },
        memory: Some(options.memory),
        cpu: Some(Cpu {
            topology: Some(topology),
            ..Cpu::default()
        }),
        os: options.kernel.map(|kernel| OperatingSystem {
            kernel: Some(kernel),
            initrd: options.initrd,
            cmdline: options.cmdline,
            ..OperatingSystem::default()
        }),
        cluster: Some(Box::new(cluster)),
        template: Some(Box::new(stillpoint_sdk::by_id::<Template>(BLANK))),
        ..Vm::default()
    };
    let vms = session.system().vms_service();
    let (made, change) = session.change(failure, |call| vms.add(&vm, call)).await?;
    session.wait(&change, &options.waiting).await?;
    one(session, made.head.id.as_deref().unwrap_or_default())
        .await?
        .print(session)
}

async fn start(session: &Session, options: &Start) -> Result<ExitCode, Trouble> {
    let (_, service) = find::vm(session, &options.vm).await?;
    let failure = format!("the VM {:?} was not started", options.vm);
    let (_, change) = session.change(failure, |call| service.start(call)).await?;
    session.wait(&change, &options.waiting).await?;
    told(session, &service, "is started").await
}

async fn stop(session: &Session, options: &Destroy) -> Result<ExitCode, Trouble> {
    let (vm, service) = find::vm(session, &options.vm).await?;
    let plan = Plan::new(format!(
        "Pull the plug of VM {:?}, which is {}",
        options.vm,
        status(&vm)
    ))
    .lose("what its guest has not yet written to its disks, and its memory")
    .keep("disks and snapshots");
    if !plan.confirm(session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = format!("the VM {:?} was not stopped", options.vm);
    let (_, change) = session.change(failure, |call| service.stop(call)).await?;
    session.wait(&change, &options.waiting).await?;
    told(session, &service, "is stopped").await
}

async fn shutdown(session: &Session, options: &Start) -> Result<ExitCode, Trouble> {
    let (_, service) = find::vm(session, &options.vm).await?;
    let failure = format!("the VM {:?} was not asked to shut down", options.vm);
    let (_, change) = session.change(failure, |call| service.shutdown(call)).await?;
    session.wait(&change, &options.waiting).await?;
    if options.waiting.waits() {
        let down = async || {
            let vm = session.read(|| service.get(GetOptions::new())).await?;
            Ok(status(&vm) == "down")
        };
        let hint = format!("its guest may not listen: stillpoint vm stop {}", options.vm);
        options.waiting.until("the guest has shut down", &hint, down).await?;
    }
    told(session, &service, "was asked to shut down").await
}

async fn delete(session: &Session, options: &Delete) -> Result<ExitCode, Trouble> {
    let Destroy {
        vm: name,
        sure,
        waiting,
    } = &options.destroy;
    let (vm, service) = find::vm(session, name).await?;
    let snapshots = find::snapshots(session, &service.snapshots_service()).await?;
    let attachments = service.disk_attachments_service();
    let follow = || ListOptions::new().follow("disk");
    let attachments = session.read(|| attachments.list(follow())).await?;
    let mut plan = Plan::new(format!("Delete the VM {name:?}, which is {}", status(&vm)))
        .lose("the VM and its configuration")
        .blocked(
            status(&vm) != "down",
            format!("it is {}: stillpoint vm shutdown {name}", status(&vm)),
        )
        .blocked(vm.delete_protected == Some(true), "it is protected against deletion");
    for snapshot in snapshots.iter().filter(|one| find::kind(one) == "regular") {
        plan = plan.lose(format!("snapshot {:?}", find::description(snapshot)));
    }
    for disk in attachments.iter().filter_map(|attachment| attachment.disk.as_deref()) {
        let text = format!(
            "disk {:?}, {}",
            disk.head.name.as_deref().unwrap_or_default(),
            size::shown(disk.provisioned_size)
        );
        plan = if options.keep_disks {
            plan.keep(text)
        } else {
            plan.lose(text)
        };
    }
    if !plan.confirm(session, sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = format!("the VM {name:?} was not deleted");
    let is_kept = options.keep_disks;
    let change = session
        .remove(failure, |call| service.remove(call.detach_only(is_kept)))
        .await?;
    session.wait(&change, waiting).await?;
    gone(session, "VM", name)
}

/// Says how the VM is now.
async fn told(session: &Session, service: &VmService, what: &str) -> Result<ExitCode, Trouble> {
    let vm = session.read(|| service.get(GetOptions::new())).await?;
    let name = vm.head.name.as_deref().unwrap_or_default();
    let text = format!("VM {name} {what}; its status is {}", status(&vm));
    Shown::new(text, super::shown::json(&vm)?).print(session)
}

/// Says that something was removed.
pub(crate) fn gone(session: &Session, kind: &str, name: &str) -> Result<ExitCode, Trouble> {
    if session.json {
        return Shown::new("", serde_json::json!({ "deleted": name })).print(session);
    }
    note(&format!("{kind} {name} is deleted"));
    Ok(ExitCode::SUCCESS)
}

impl Waiting {
    /// Waits until something is so.
    async fn until(
        &self,
        what: &str,
        hint: &str,
        is_so: impl AsyncFn() -> Result<bool, Trouble>,
    ) -> Result<(), Trouble> {
        let begin = std::time::Instant::now();
        while !is_so().await? {
            if begin.elapsed() > self.limit() {
                return Err(self.not_within(what).hint(hint));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }
}
