//! `stillpoint disk ...`

use super::{
    Session, Trouble, code,
    connect::id_of,
    find,
    plan::{Plan, Sure},
    session::Waiting,
    shown::{Shown, Watch, json, or_dash},
    size,
    vm::gone,
};
use clap::{Args, Subcommand, ValueEnum};
use std::process::ExitCode;
use stillpoint_sdk::{
    GetOptions, ListOptions, by_id,
    types::{Disk, DiskAttachment, Header, StorageDomain},
};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DiskCommand {
    /// List the disks.
    #[command(after_help = "Examples:
  stillpoint disk list
  stillpoint disk list --vm db1")]
    List(List),
    /// Show one disk and the images that it stands on.
    #[command(after_help = "Examples:
  stillpoint disk show db1_disk1")]
    Show(One),
    /// Make an empty disk.
    #[command(after_help = "Examples:
  stillpoint disk create data --size 100G
  stillpoint disk create db1_disk1 --size 10G --vm db1 --bootable")]
    Create(Create),
    /// Attach a disk to a VM, also while that runs.
    #[command(after_help = "Examples:
  stillpoint disk attach db1 data
  stillpoint disk attach db1 data --inactive     attach it, but do not plug it in")]
    Attach(Attach),
    /// Take a disk off a VM. The disk stays.
    #[command(after_help = "Examples:
  stillpoint disk detach db1 data")]
    Detach(Detach),
    /// Make a disk larger, also while its VM runs. It cannot be made smaller again.
    #[command(after_help = "Examples:
  stillpoint disk extend data --size 200G")]
    Extend(Extend),
    /// Delete a disk and what is on it.
    #[command(after_help = "Examples:
  stillpoint disk delete data --dry-run
  stillpoint disk delete data --yes")]
    Delete(Delete),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    /// Only those of this VM, by name or id.
    #[arg(long, value_name = "VM", conflicts_with = "search")]
    vm: Option<String>,
    /// Only those that a query of the API's search language finds.
    #[arg(long, value_name = "QUERY")]
    search: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct One {
    /// Name or id of the disk.
    disk: String,
}

/// How a disk is seen by a guest.
#[derive(Debug, Clone, Args)]
struct Seen {
    /// How the guest sees it.
    #[arg(long, value_enum, default_value_t = Interface::Virtio)]
    interface: Interface,
    /// The VM boots from it.
    #[arg(long)]
    bootable: bool,
    /// Attach it, but do not plug it in.
    #[arg(long)]
    inactive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Interface {
    Virtio,
    #[value(name = "virtio_scsi")]
    VirtioScsi,
    Sata,
    Ide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Qcow2: grows as it is written, can be backed up by its changes.
    Cow,
    /// Plain.
    Raw,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Create {
    /// Name of the new disk.
    name: String,
    /// Size: bytes, or with K, M, G, T.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: u64,
    /// Attach it to this VM, by name or id.
    #[arg(long, value_name = "VM")]
    vm: Option<String>,
    #[command(flatten)]
    seen: Seen,
    /// How it is stored.
    #[arg(long, value_enum, default_value_t = Format::Cow)]
    format: Format,
    /// Name of the storage domain. Default: the first for data.
    #[arg(long, value_name = "NAME")]
    storage_domain: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Attach {
    /// Name or id of the VM.
    vm: String,
    /// Name or id of the disk.
    disk: String,
    #[command(flatten)]
    seen: Seen,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Detach {
    /// Name or id of the VM.
    vm: String,
    /// Name or id of the disk.
    disk: String,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Extend {
    /// Name or id of the disk.
    disk: String,
    /// The new size: bytes, or with K, M, G, T.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: u64,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Delete {
    /// Name or id of the disk.
    disk: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    waiting: Waiting,
}

pub(crate) async fn run(session: &Session, command: DiskCommand) -> Result<ExitCode, Trouble> {
    match command {
        DiskCommand::List(options) => list(session, &options).await,
        DiskCommand::Show(options) => show(session, &options.disk).await?.print(session),
        DiskCommand::Create(options) => create(session, &options).await,
        DiskCommand::Attach(options) => attach(session, &options).await,
        DiskCommand::Detach(options) => detach(session, &options).await,
        DiskCommand::Extend(options) => extend(session, &options).await,
        DiskCommand::Delete(options) => delete(session, &options).await,
    }
}

async fn list(session: &Session, options: &List) -> Result<ExitCode, Trouble> {
    let look = async || {
        let list = match &options.vm {
            Some(vm) => of_vm(session, vm).await?,
            None => {
                let disks = session.system().disks_service();
                let wanted = match &options.search {
                    Some(query) => ListOptions::new().search(query),
                    None => ListOptions::new(),
                };
                session.read(|| disks.list(wanted.clone())).await?
            }
        };
        Shown::list(&list, &["NAME", "SIZE", "USED", "FORMAT", "STATUS", "ID"], |disk| {
            vec![
                or_dash(disk.head.name.as_deref()),
                size::shown(disk.provisioned_size),
                size::shown(disk.total_size.or(disk.actual_size)),
                or_dash(disk.format.as_deref()),
                or_dash(disk.status.as_deref()),
                or_dash(disk.head.id.as_deref()),
            ]
        })
    };
    options.watch.show(session, look).await
}

async fn of_vm(session: &Session, vm: &str) -> Result<Vec<Disk>, Trouble> {
    let (_, service) = find::vm(session, vm).await?;
    let attachments = service.disk_attachments_service();
    let follow = || ListOptions::new().follow("disk");
    let list = session.read(|| attachments.list(follow())).await?;
    Ok(list
        .into_iter()
        .filter_map(|attachment| Some(*attachment.disk?))
        .collect())
}

async fn show(session: &Session, wanted: &str) -> Result<Shown, Trouble> {
    let disk = find::disk(session, wanted).await?;
    let id = id_of(&disk, "a disk")?;
    let service = session.system().disks_service().disk_service(&id);
    let disk = session.read(|| service.get(GetOptions::new())).await?;
    let images = service.disk_snapshots_service();
    let active = || ListOptions::new().query("include_active", "true");
    let images = session.read(|| images.list(active())).await?;
    let used = images.iter().map(|image| {
        let id = or_dash(image.base.head.id.as_deref());
        format!("{id} ({})", size::shown(image.base.actual_size))
    });
    let images = used.collect::<Vec<_>>().join(", ");
    Shown::object(
        &disk,
        &[
            ("name", disk.head.name.clone()),
            ("id", disk.head.id.clone()),
            ("status", disk.status.as_ref().map(|status| status.state.clone())),
            ("description", disk.head.description.clone()),
            ("size", Some(size::shown(disk.provisioned_size))),
            ("used", Some(size::shown(disk.total_size.or(disk.actual_size)))),
            ("format", disk.format.clone()),
            ("backup", disk.backup.clone()),
            ("active image", disk.image_id.clone()),
            ("images", Some(images)),
        ],
    )
}

/// The storage domain of a new disk.
async fn domain(session: &Session, wanted: Option<&str>) -> Result<StorageDomain, Trouble> {
    let domains = session.system().storage_domains_service();
    let list = session.read(|| domains.list(ListOptions::new())).await?;
    let is_wanted = |domain: &&StorageDomain| match wanted {
        Some(name) => domain.head.name.as_deref() == Some(name) || domain.head.id.as_deref() == Some(name),
        None => domain.kind.as_deref() == Some("data"),
    };
    match list.iter().find(is_wanted) {
        Some(found) => Ok(by_id(&id_of(found, "a storage domain")?)),
        None => {
            let names: Vec<_> = list.iter().filter_map(|domain| domain.head.name.as_deref()).collect();
            Err(
                Trouble::new(format!("there is no storage domain {:?}", wanted.unwrap_or("for data")))
                    .hint(format!("there are: {}", names.join(", ")))
                    .code(code::NOT_FOUND),
            )
        }
    }
}

impl Seen {
    fn attachment(&self, disk: Disk) -> DiskAttachment {
        let interface = match self.interface {
            Interface::Virtio => "virtio",
            Interface::VirtioScsi => "virtio_scsi",
            Interface::Sata => "sata",
            Interface::Ide => "ide",
        };
        DiskAttachment {
            interface: Some(interface.to_owned()),
            bootable: Some(self.bootable),
            active: Some(!self.inactive),
            disk: Some(Box::new(disk)),
            ..DiskAttachment::default()
        }
    }
}

async fn create(session: &Session, options: &Create) -> Result<ExitCode, Trouble> {
    let vm = match &options.vm {
        Some(vm) => Some(find::vm(session, vm).await?.1),
        None => None,
    };
    let wanted = Disk {
        head: Header {
            name: Some(options.name.clone()),
            ..Header::default()
        },
        provisioned_size: Some(options.size),
        format: Some(
            match options.format {
                Format::Cow => "cow",
                Format::Raw => "raw",
            }
            .to_owned(),
        ),
        storage_domains: Some(vec![domain(session, options.storage_domain.as_deref()).await?]),
        ..Disk::default()
    };
    let failure = format!("the disk {:?} was not made", options.name);
    let (id, change) = match vm {
        Some(service) => {
            let attachments = service.disk_attachments_service();
            let wanted = options.seen.attachment(wanted);
            let (made, change) = session.change(failure, |call| attachments.add(&wanted, call)).await?;
            (made.head.id, change)
        }
        None => {
            let disks = session.system().disks_service();
            let (made, change) = session.change(failure, |call| disks.add(&wanted, call)).await?;
            (made.head.id, change)
        }
    };
    session.wait(&change, &options.waiting).await?;
    show(session, &id.unwrap_or_default()).await?.print(session)
}

async fn attach(session: &Session, options: &Attach) -> Result<ExitCode, Trouble> {
    let (_, service) = find::vm(session, &options.vm).await?;
    let disk = id_of(&find::disk(session, &options.disk).await?, "a disk")?;
    let wanted = options.seen.attachment(by_id(&disk));
    let failure = format!("the disk {:?} was not attached to VM {:?}", options.disk, options.vm);
    let attachments = service.disk_attachments_service();
    let (made, change) = session.change(failure, |call| attachments.add(&wanted, call)).await?;
    session.wait(&change, &options.waiting).await?;
    let text = format!("disk {} is attached to VM {}", options.disk, options.vm);
    Shown::new(text, json(&made)?).print(session)
}

async fn detach(session: &Session, options: &Detach) -> Result<ExitCode, Trouble> {
    let (_, service) = find::vm(session, &options.vm).await?;
    let disk = id_of(&find::disk(session, &options.disk).await?, "a disk")?;
    let attachment = service.disk_attachments_service().attachment_service(&disk);
    let failure = format!("the disk {:?} was not taken off VM {:?}", options.disk, options.vm);
    let change = session
        .remove(failure, |call| attachment.remove(call.detach_only(true)))
        .await?;
    session.wait(&change, &options.waiting).await?;
    let text = format!("disk {} is off VM {}, and stays", options.disk, options.vm);
    Shown::new(text, serde_json::json!({ "detached": disk })).print(session)
}

async fn extend(session: &Session, options: &Extend) -> Result<ExitCode, Trouble> {
    let disk = find::disk(session, &options.disk).await?;
    let id = id_of(&disk, "a disk")?;
    let now = disk.provisioned_size.unwrap_or_default();
    if options.size < now {
        return Err(Trouble::new(format!(
            "the disk {:?} has {} already, and disks are not made smaller",
            options.disk,
            size::shown(Some(now))
        ))
        .hint("give --size a larger one")
        .code(code::USAGE));
    }
    let wanted = Disk {
        provisioned_size: Some(options.size),
        ..Disk::default()
    };
    let failure = format!("the disk {:?} was not extended", options.disk);
    let service = session.system().disks_service().disk_service(&id);
    let (_, change) = session.change(failure, |call| service.update(&wanted, call)).await?;
    session.wait(&change, &options.waiting).await?;
    show(session, &id).await?.print(session)
}

async fn delete(session: &Session, options: &Delete) -> Result<ExitCode, Trouble> {
    let disk = find::disk(session, &options.disk).await?;
    let id = id_of(&disk, "a disk")?;
    let status = disk.status.as_deref().unwrap_or_default();
    let plan = Plan::new(format!("Delete the disk {:?}", options.disk))
        .lose(format!(
            "what is on it, {} of {}",
            size::shown(disk.total_size),
            size::shown(disk.provisioned_size)
        ))
        .lose("its place in every snapshot and checkpoint")
        .blocked(status == "locked", "it is locked");
    if !plan.confirm(session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let service = session.system().disks_service().disk_service(&id);
    let failure = format!("the disk {:?} was not deleted", options.disk);
    let change = session.remove(failure, |call| service.remove(call)).await?;
    session.wait(&change, &options.waiting).await?;
    gone(session, "disk", &options.disk)
}
