//! `stillpoint backup restore`: a new VM from a point.
//!
//! Files are verified before anything is made. Disks come first, each whole and durable on the server before the next;
//! then the VM, down, with the disks attached in the point's order. When one of the steps fails, what was made is removed
//! again, so that no half VM is taken for a whole one.

use super::{
    Trouble, blocking, connect,
    connect::id_of,
    folder::Folder,
    interrupted,
    options::RestoreOptions,
    point::{Disk, Manifest},
    progress::Progress,
    qcow2::Image,
    retry::{Unseen, poll},
    session::Opened,
    table::Table,
    ticket::{self, IDLE_S},
    upload, verify,
};
use indicatif::BinaryBytes;
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use stillpoint_sdk::{
    CallOptions, Connection, GetOptions, ListOptions, by_id,
    types::{self, Cpu, CpuTopology, DiskAttachment, ImageTransfer, MemoryPolicy, OperatingSystem, Template, Vm},
};

/// How long a new disk or VM may take until it can be used.
const MADE_LIMIT: Duration = Duration::from_secs(300);
/// The template that has nothing.
const BLANK: &str = "00000000-0000-0000-0000-000000000000";

/// A disk that was restored.
#[derive(Debug, serde::Serialize)]
struct Restored {
    /// Of the new disk.
    id: String,
    /// Of the disk in the point.
    from: String,
    alias: String,
    size_bytes: u64,
    written_bytes: u64,
    milliseconds: u64,
}

/// Makes a VM from a point.
pub(crate) async fn restore(options: &RestoreOptions) -> Result<ExitCode, Trouble> {
    let begin = Instant::now();
    let (progress, opened) = (Arc::new(Progress::new()), Opened::default());
    let connection = connect::connect(&options.server)?;
    let point = verified(options.dir.clone(), options.at.clone(), Arc::clone(&progress)).await?;
    let job = Restore {
        options,
        connection,
        progress: &progress,
        opened: opened.clone(),
    };
    let made = tokio::select! {
        made = job.vm(&point) => made,
        () = interrupted() => Err(Trouble::interrupted()),
    };
    if made.is_ok() {
        opened.keep();
    }
    tokio::select! {
        _no_backup = opened.close(&progress) => {}
        () = interrupted() => progress.say("interrupted again: what the restore made so far is still on the server"),
    }
    if let Err(error) = job.connection.close().await {
        tracing::debug!(%error, "the logout failed");
    }
    let (vm, disks) = made?;
    report(options, &point, &vm, &disks, begin.elapsed())?;
    Ok(ExitCode::SUCCESS)
}

/// The point that was asked for, when all that it stands on is as it was written.
async fn verified(dir: PathBuf, at: Option<String>, progress: Arc<Progress>) -> Result<Manifest, Trouble> {
    blocking(move || {
        let folder = Folder::open(&dir)?;
        let point = folder.choose(at.as_deref())?;
        let problems = verify::problems(&folder, &verify::chain(&folder, point.clone())?, &progress);
        if problems.is_empty() {
            return Ok(point);
        }
        let text = format!("point {} cannot be restored: {}", point.number, problems.join("; "));
        Err(Trouble::new(text).hint("choose another with --at; `stillpoint backup verify DIR` says which are good"))
    })
    .await
}

struct Restore<'r> {
    options: &'r RestoreOptions,
    connection: Connection,
    progress: &'r Progress,
    opened: Opened,
}

impl Restore<'_> {
    async fn vm(&self, point: &Manifest) -> Result<(String, Vec<Restored>), Trouble> {
        let domain = self.domain().await?;
        let cluster = self.cluster().await?;
        let vms = self.connection.system_service().vms_service();
        let mut disks = Vec::new();
        for (index, disk) in point.disks.iter().enumerate() {
            let restored = self.disk(point, disk, index, &domain).await;
            disks.push(
                restored.map_err(|trouble| trouble.context(format!("disk {} could not be restored", disk.alias)))?,
            );
        }
        let wanted = self.hardware(point, &cluster);
        let vm = vms.add(&wanted, CallOptions::new()).await.map_err(|error| {
            let trouble = Trouble::from(error).context(format!("the VM {:?} could not be made", self.options.name));
            trouble.hint("choose another name with --as, if that is what is wrong")
        })?;
        let vm = id_of(&vm, "a VM")?;
        let service = vms.vm_service(&vm);
        self.opened.add_vm(service.clone());
        poll("the new VM", MADE_LIMIT, async || {
            let now = service.get(GetOptions::new()).await?;
            Ok((now.status.as_deref() == Some("down")).then_some(()))
        })
        .await?;
        for (disk, restored) in point.disks.iter().zip(&disks) {
            let attachment = DiskAttachment {
                active: Some(true),
                bootable: Some(disk.bootable),
                interface: Some(disk.interface.clone().unwrap_or_else(|| "virtio".into())),
                disk: Some(Box::new(by_id(&restored.id))),
                ..DiskAttachment::default()
            };
            let attached = service
                .disk_attachments_service()
                .add(&attachment, CallOptions::new())
                .await;
            attached
                .map_err(|error| Trouble::from(error).context(format!("disk {} could not be attached", disk.alias)))?;
        }
        Ok((vm, disks))
    }

    async fn domain(&self) -> Result<String, Trouble> {
        let all = self
            .connection
            .system_service()
            .storage_domains_service()
            .list(ListOptions::new())
            .await?;
        let wanted = self.options.storage_domain.as_deref();
        let found = all.into_iter().find(|domain| match wanted {
            Some(wanted) => is_called(domain, wanted),
            None => domain.kind.as_deref() == Some("data"),
        });
        match found {
            Some(domain) => id_of(&domain, "a storage domain"),
            None => Err(Trouble::new("there is no such storage domain").hint("name one with --storage-domain")),
        }
    }

    async fn cluster(&self) -> Result<String, Trouble> {
        let all = self
            .connection
            .system_service()
            .clusters_service()
            .list(ListOptions::new())
            .await?;
        let wanted = self.options.cluster.as_deref();
        let found = all
            .into_iter()
            .find(|cluster| wanted.is_none_or(|wanted| is_called(cluster, wanted)));
        match found {
            Some(cluster) => id_of(&cluster, "a cluster"),
            None => Err(Trouble::new("there is no such cluster").hint("name one with --cluster")),
        }
    }

    /// The point's hardware; the name, the cluster and all ids are new.
    fn hardware(&self, point: &Manifest, cluster: &str) -> Vm {
        let machine = &point.vm;
        let mut vm = Vm {
            memory: machine.memory_bytes,
            memory_policy: machine.memory_guaranteed_bytes.map(|guaranteed| MemoryPolicy {
                guaranteed: Some(guaranteed),
                ..MemoryPolicy::default()
            }),
            cpu: Some(Cpu {
                topology: Some(CpuTopology {
                    cores: machine.cores,
                    sockets: machine.sockets,
                    threads: machine.threads,
                }),
                ..Cpu::default()
            }),
            os: Some(OperatingSystem {
                cmdline: machine.cmdline.clone(),
                initrd: machine.initrd.clone(),
                kernel: machine.kernel.clone(),
                kind: machine.os.clone(),
                ..OperatingSystem::default()
            }),
            kind: machine.kind.clone(),
            bios: machine.firmware.clone().map(|firmware| types::Bios {
                kind: Some(firmware),
                ..types::Bios::default()
            }),
            cluster: Some(Box::new(by_id(cluster))),
            template: Some(Box::new(by_id::<Template>(BLANK))),
            ..Vm::default()
        };
        vm.head.name = Some(self.options.name.clone());
        vm.head.description.clone_from(&machine.description);
        vm
    }

    /// Makes a disk and fills it.
    async fn disk(&self, point: &Manifest, disk: &Disk, index: usize, domain: &str) -> Result<Restored, Trouble> {
        let begin = Instant::now();
        let alias = format!("{}_Disk{}", self.options.name, index + 1);
        let (dir, point, wanted) = (self.options.dir.clone(), point.clone(), disk.clone());
        let chain = Arc::new(blocking(move || open_chain(&dir, &point, &wanted)).await?);
        let mut new = types::Disk {
            format: Some("cow".into()),
            sparse: Some(true),
            backup: Some("incremental".into()),
            provisioned_size: Some(disk.size_bytes),
            storage_domains: Some(vec![by_id(domain)]),
            ..types::Disk::default()
        };
        new.head.name = Some(alias.clone());
        let disks = self.connection.system_service().disks_service();
        let made = disks.add(&new, CallOptions::new()).await?;
        let id = id_of(&made, "a disk")?;
        let service = disks.disk_service(&id);
        self.opened.add_disk(service.clone());
        let is_ok = async || {
            let now = service.get(GetOptions::new()).await?;
            match now.status.as_deref() {
                Some("ok") => Ok(Some(())),
                Some("illegal") => Err(Unseen::from(Trouble::new(
                    "the server says that the new disk is illegal",
                ))),
                _ => Ok(None),
            }
        };
        poll("the new disk", MADE_LIMIT, is_ok).await?;
        let transfer = ImageTransfer {
            direction: Some("upload".into()),
            format: Some("raw".into()),
            inactivity_timeout: Some(IDLE_S),
            timeout_policy: Some("cancel".into()),
            disk: Some(Box::new(by_id(&id))),
            ..ImageTransfer::default()
        };
        let ticket = ticket::open(
            &self.connection,
            &self.opened,
            &transfer,
            self.options.connections.into(),
        )
        .await?;
        let written_bytes = upload::bytes_of(&chain);
        let bar = self.progress.begin(alias.as_str(), written_bytes);
        let uploaded = upload::upload(&ticket.image, chain, ticket.connections, &bar).await;
        bar.end();
        uploaded?;
        ticket.finish(&self.opened).await?;
        poll("the new disk after its upload", MADE_LIMIT, is_ok).await?;
        Ok(Restored {
            id,
            from: disk.id.clone(),
            alias,
            size_bytes: disk.size_bytes,
            written_bytes,
            milliseconds: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

fn is_called<T: types::Identified>(object: &T, wanted: &str) -> bool {
    let head = object.head();
    head.id.as_deref() == Some(wanted) || head.name.as_deref() == Some(wanted)
}

/// The files of a disk at a point, the newest first.
fn open_chain(dir: &std::path::Path, point: &Manifest, disk: &Disk) -> Result<Vec<Image>, Trouble> {
    let folder = Folder::open(dir)?;
    let points = folder.points()?;
    let mut images = vec![Image::open(&folder.file(&point.point, &disk.file))?];
    let mut number = point.number;
    let mut below = disk.backing.clone();
    while let Some(backing) = below {
        // Always to an older one: a ring has an end.
        let found = points
            .iter()
            .find(|point| point.point == backing.point && point.number < number);
        let entry = found.and_then(|point| Some((point, point.disks.iter().find(|disk| disk.file == backing.file)?)));
        let (point, entry) = entry.ok_or_else(|| Trouble::new(format!("{} is not there", backing.name())))?;
        images.push(Image::open(&folder.file(&point.point, &entry.file))?);
        (number, below) = (point.number, entry.backing.clone());
    }
    Ok(images)
}

fn report(
    options: &RestoreOptions,
    point: &Manifest,
    vm: &str,
    disks: &[Restored],
    took: Duration,
) -> Result<(), Trouble> {
    if options.json {
        let value = serde_json::json!({
            "vm": { "id": vm, "name": options.name }, "point": point.point, "disks": disks,
            "milliseconds": took.as_millis(),
        });
        return super::print(&value.to_string());
    }
    let mut table = Table::new(&["DISK", "FROM", "SIZE", "WRITTEN", "TIME"]);
    for (disk, from) in disks.iter().zip(&point.disks) {
        table.row(vec![
            disk.alias.clone(),
            from.alias.clone(),
            BinaryBytes(disk.size_bytes).to_string(),
            BinaryBytes(disk.written_bytes).to_string(),
            format!("{:.1} s", Duration::from_millis(disk.milliseconds).as_secs_f64()),
        ]);
    }
    super::print(&format!(
        "{}\n\nVM {} ({vm}) was made from point {} of {}, after {:.1} s; it is down",
        table.text(),
        options.name,
        point.number,
        point.vm.name,
        took.as_secs_f64()
    ))
}
