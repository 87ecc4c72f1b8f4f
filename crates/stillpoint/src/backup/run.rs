//! `stillpoint backup run`: a new point.
//!
//! ```text
//! look at VM and directory ── start backup ── ready ── per disk: transfer, extents, data, file, end ──┐
//!                                                                                                     │
//!        point gets its name ──┬── read everything again, compare, digests ──┬───────────────────────┘
//!                              └── finalize backup ──────────────────────────┘
//! ```
//! The backup is finalized as soon as the files are durable, while they are read again: the server shall not wait for this
//! disk, nor this disk for the server. Whatever happens before, it is finalized as well (see `session`), and no point
//! appears.

use super::{
    Trouble, blocking, connect,
    connect::id_of,
    folder::{Folder, Partial},
    interrupted,
    options::RunOptions,
    point::{self, Backing, DiskMode, FORMAT, MANIFEST, Machine, Manifest, SUMS, SourceKind},
    progress::{Progress, per_second},
    qcow2,
    reading::Wanted,
    session::{self, Opened},
    table::Table,
};
use indicatif::BinaryBytes;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};
use stillpoint_sdk::{
    AddBackupOptions, Connection, Error, GetOptions, ListOptions, VmService, by_id,
    types::{Backup, DiskAttachment, Vm},
};

/// What an incremental run builds on.
#[derive(Debug)]
struct Base {
    point: Manifest,
    checkpoint: String,
}

/// Makes a point.
pub(crate) async fn run(options: &RunOptions) -> Result<ExitCode, Trouble> {
    let begin = Instant::now();
    let (progress, opened) = (Progress::new(), Opened::default());
    let (connection, path) = (connect::connect(&options.server)?, options.to.clone());
    let folder = blocking(move || Folder::open_to_write(&path)).await?;
    let job = Run {
        options,
        connection,
        folder,
        progress: &progress,
        opened: opened.clone(),
    };
    let made = tokio::select! {
        made = job.point() => made,
        () = interrupted() => Err(Trouble::interrupted()),
    };
    // In every outcome: after success nothing is open any more.
    let is_ended = tokio::select! {
        is_ended = opened.close(&progress) => is_ended,
        () = interrupted() => {
            progress.say("interrupted again: what is open on the server is ended by the next run, or by its own limits");
            false
        }
    };
    if is_ended && let Err(trouble) = job.folder.cross_out() {
        progress.say(&format!("warning: {}", trouble.chain()));
    }
    if let Err(error) = job.connection.close().await {
        tracing::debug!(%error, "the logout failed");
    }
    let (point, warnings) = made?;
    report(options, &point, &warnings, begin.elapsed())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) struct Run<'r> {
    pub(super) options: &'r RunOptions,
    pub(super) connection: Connection,
    folder: Folder,
    pub(super) progress: &'r Progress,
    pub(super) opened: Opened,
}

impl Run<'_> {
    async fn point(&self) -> Result<(Manifest, Vec<String>), Trouble> {
        let vm = connect::find_vm(&self.connection, &self.options.vm).await?;
        let vm_id = id_of(&vm, "a VM")?;
        let service = self.connection.system_service().vms_service().vm_service(&vm_id);
        let points = self.points_of(&vm_id)?;
        self.end_left_over(&service, &vm_id).await?;
        let base = if self.options.incremental {
            self.base(&service, &points).await?
        } else {
            None
        };
        let mut wanted = self.disks(&service).await?;
        let mut manifest = Manifest {
            format: FORMAT,
            number: points.last().map_or(1, |last| last.number + 1),
            point: String::new(),
            time: jiff::Timestamp::now().to_string(),
            description: self.options.description.clone(),
            vm: machine(&vm, vm_id),
            source: SourceKind::AtRest,
            backup_id: None,
            checkpoint_id: None,
            disks: Vec::new(),
            has_ovf: false,
        };
        let mut ovf = document(&vm);
        if !self.options.at_rest {
            let then = self.begin(&service, &mut manifest, &mut wanted, base.as_ref()).await?;
            ovf = then.or(ovf);
        } else if vm.status.as_deref() != Some("down") {
            let text = format!("the VM {} is {}", manifest.vm.name, vm.status.as_deref().unwrap_or("?"));
            return Err(Trouble::new(text).hint("--at-rest is for VMs that are down; leave it out for others"));
        }
        manifest.point = format!("{:06}-{}", manifest.number, compact(&manifest.time));
        manifest.has_ovf = ovf.is_some();

        let partial = self.folder.begin(&manifest.point)?;
        let written = self
            .read_all(&partial, &mut wanted, manifest.backup_id.as_deref())
            .await?;
        let mut warnings = Vec::new();
        // The server merges while this disk is read: neither waits for the other.
        let (finalized, read) = tokio::join!(self.opened.finalize_backup(), self.read_all_again(&partial, written));
        if let Err(trouble) = finalized {
            // The data is whole. Only what the server would remember for the next run is in doubt.
            manifest.checkpoint_id = None;
            let cause = trouble.chain();
            warnings.push(format!(
                "the next point will be a full one: finalizing the backup failed: {cause}"
            ));
        } else {
            self.folder.cross_out()?;
        }
        manifest.disks = read?;
        if ovf.is_none() {
            warnings.push("the server gave no OVF document; a restore uses the hardware in the manifest".to_owned());
        }
        for disk in &manifest.disks {
            if let Some(why) = &disk.why_full {
                warnings.push(format!("disk {} was taken in full: {why}", disk.alias));
            }
        }
        let complete = manifest.clone();
        blocking(move || publish(partial, &complete, ovf.as_deref())).await?;
        Ok((manifest, warnings))
    }

    /// A run that was killed could not finalize its backup, which would keep this one from starting.
    async fn end_left_over(&self, service: &VmService, vm: &str) -> Result<(), Trouble> {
        if let Some((of, backup)) = self.folder.noted()
            && of == vm
            && session::end_left_over(&self.connection, service, &backup).await?
        {
            self.progress
                .say("an earlier run was cut off: the backup that it left open on the server was ended");
        }
        self.folder.cross_out()
    }

    /// The points so far, all of this VM.
    fn points_of(&self, vm: &str) -> Result<Vec<Manifest>, Trouble> {
        let points = self.folder.points()?;
        let Some(other) = points.iter().find(|point| point.vm.id != vm) else {
            return Ok(points);
        };
        let (path, name, id) = (self.folder.path().display(), &other.vm.name, &other.vm.id);
        let text = format!("{path} holds points of the VM {name} ({id})");
        Err(Trouble::new(text).hint("one directory is for one VM: name another with --to"))
    }

    /// Starts a backup and notes what the server says about it; the VM's document of its moment, if there is one.
    async fn begin(
        &self,
        vm: &VmService,
        manifest: &mut Manifest,
        wanted: &mut [Wanted],
        base: Option<&Base>,
    ) -> Result<Option<String>, Trouble> {
        let backup = self.start(vm, &manifest.vm.id, wanted, base).await?;
        self.modes(vm, &backup, wanted, base).await?;
        manifest.source = SourceKind::Backup;
        manifest.backup_id.clone_from(&backup.head.id);
        manifest.checkpoint_id.clone_from(&backup.to_checkpoint_id);
        if let Some(date) = backup.creation_date
            && let Ok(time) = jiff::Timestamp::from_microsecond(date.0)
        {
            manifest.time = time.to_string();
        }
        self.document_then(vm, &backup).await
    }

    /// The newest point that the server still knows the changes since.
    async fn base(&self, vm: &VmService, points: &[Manifest]) -> Result<Option<Base>, Trouble> {
        let newest = points.iter().rev().find(|point| point.checkpoint_id.is_some());
        let Some((point, checkpoint)) = newest.and_then(|point| Some((point, point.checkpoint_id.clone()?))) else {
            self.progress
                .say("there is no point to build on: this one is a full one");
            return Ok(None);
        };
        let known = vm
            .checkpoints_service()
            .checkpoint_service(&checkpoint)
            .get(GetOptions::new())
            .await;
        let why = match known {
            Ok(known) if known.state.as_deref() != Some("invalid") => {
                return Ok(Some(Base {
                    point: point.clone(),
                    checkpoint,
                }));
            }
            Ok(_) => "is invalid",
            Err(Error::NotFound(_)) => "is not there any more",
            Err(error) => return Err(error.into()),
        };
        self.progress.say(&format!(
            "the checkpoint of point {} {why} on the server: this point is a full one",
            point.number
        ));
        Ok(None)
    }

    /// The VM's disks, in its order; what cannot be backed up is said.
    async fn disks(&self, vm: &VmService) -> Result<Vec<Wanted>, Trouble> {
        let attachments = vm
            .disk_attachments_service()
            .list(ListOptions::new().follow("disk"))
            .await?;
        let mut wanted = Vec::new();
        for attachment in attachments {
            let id = id_of(&attachment, "a disk attachment")?;
            wanted.extend(self.wanted(attachment, id).await?);
        }
        if wanted.is_empty() {
            return Err(Trouble::new("the VM has no disk that could be backed up").hint("attach a disk to it"));
        }
        Ok(wanted)
    }

    async fn wanted(&self, attachment: DiskAttachment, id: String) -> Result<Option<Wanted>, Trouble> {
        // An engine that does not follow gives no more than the id.
        let disk = match attachment.disk {
            Some(disk) if disk.provisioned_size.is_some() => *disk,
            _ => {
                let disks = self.connection.system_service().disks_service();
                disks.disk_service(&id).get(GetOptions::new()).await?
            }
        };
        let alias = disk.alias.or(disk.head.name).unwrap_or_else(|| id.clone());
        if disk.storage_type.as_deref().is_some_and(|kind| kind != "image") {
            self.progress.say(&format!(
                "disk {alias} is left out: it is no image but a {}",
                disk.storage_type.unwrap_or_default()
            ));
            return Ok(None);
        }
        let size_bytes = disk
            .provisioned_size
            .ok_or_else(|| Trouble::new(format!("the server does not say how large disk {alias} is")))?;
        Ok(Some(Wanted {
            id,
            alias,
            is_bootable: attachment.bootable.unwrap_or(false),
            interface: attachment.interface,
            size_bytes,
            mode: DiskMode::Full,
            why_full: None,
            backing: None,
        }))
    }

    async fn start(
        &self,
        vm: &VmService,
        vm_id: &str,
        wanted: &[Wanted],
        base: Option<&Base>,
    ) -> Result<Backup, Trouble> {
        let id = uuid::Uuid::new_v4().to_string();
        let mut backup: Backup = by_id(&id);
        backup.head.description = Some(self.options.description.clone());
        backup.from_checkpoint_id = base.map(|base| base.checkpoint.clone());
        backup.disks = Some(wanted.iter().map(|disk| by_id(&disk.id)).collect());
        let mut options = AddBackupOptions::new();
        if self.options.require_consistency {
            options = options.require_consistency(true);
        }
        if self.options.use_active {
            options = options.use_active(true);
        }
        self.folder.note(vm_id, &id)?;
        let service = vm.backups_service();
        self.opened.start_backup(&service, &backup, options).await
    }

    /// What the server says about each disk, and what is there to build on.
    async fn modes(
        &self,
        vm: &VmService,
        backup: &Backup,
        wanted: &mut [Wanted],
        base: Option<&Base>,
    ) -> Result<(), Trouble> {
        let service = vm.backups_service().backup_service(&id_of(backup, "a backup")?);
        let shown = service.disks_service().list(ListOptions::new()).await?;
        for disk in wanted {
            let in_backup = shown.iter().find(|shown| shown.head.id.as_deref() == Some(&disk.id));
            let in_backup = in_backup
                .ok_or_else(|| Trouble::new(format!("the server left disk {} out of the backup", disk.alias)))?;
            // The size at the backup's moment: the disk may have been extended since.
            disk.size_bytes = in_backup.provisioned_size.unwrap_or(disk.size_bytes);
            let Some(base) = base else { continue };
            let below = base.point.disks.iter().find(|below| below.id == disk.id);
            let why = match below {
                None => "it is not in the point before",
                Some(_) if in_backup.backup_mode.as_deref() != Some("incremental") => {
                    "the server does not know what changed on it"
                }
                Some(below) if below.size_bytes > disk.size_bytes => "it was larger in the point before",
                Some(below) if !self.is_there(&base.point, below) => "its file in the point before is not whole",
                Some(below) => {
                    disk.mode = DiskMode::Incremental;
                    disk.backing = Some(Backing {
                        point: base.point.point.clone(),
                        file: below.file.clone(),
                    });
                    continue;
                }
            };
            disk.why_full = Some(why.to_owned());
        }
        Ok(())
    }

    fn is_there(&self, point: &Manifest, disk: &point::Disk) -> bool {
        let file = self.folder.file(&point.point, &disk.file);
        file.metadata()
            .is_ok_and(|file| file.is_file() && file.len() == disk.file_bytes)
    }

    /// The VM's document at the backup's moment, where the backup has a snapshot.
    async fn document_then(&self, vm: &VmService, backup: &Backup) -> Result<Option<String>, Trouble> {
        let Some(id) = backup
            .snapshot
            .as_ref()
            .and_then(|snapshot| snapshot.base.head.id.as_deref())
        else {
            return Ok(None);
        };
        let service = vm.snapshots_service().snapshot_service(id);
        match service.get(GetOptions::new().all_content(true)).await {
            Ok(snapshot) => Ok(document(&snapshot.base)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes what is said about the point, and gives it its name.
fn publish(partial: Partial, manifest: &Manifest, ovf: Option<&str>) -> Result<(), Trouble> {
    let text =
        serde_json::to_vec_pretty(manifest).map_err(|error| Trouble::of("the manifest cannot be written", error))?;
    let mut sums: Vec<(String, &str)> = vec![(sha256(&text), MANIFEST)];
    partial.write(MANIFEST, &text)?;
    if let Some(ovf) = ovf {
        partial.write(point::OVF, ovf.as_bytes())?;
        sums.push((sha256(ovf.as_bytes()), point::OVF));
    }
    for disk in &manifest.disks {
        sums.push((disk.sha256.clone(), &disk.file));
    }
    let lines: String = sums.iter().map(|(sum, file)| format!("{sum}  {file}\n")).collect();
    partial.write(SUMS, lines.as_bytes())?;
    partial.publish()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    qcow2::hex(&Sha256::digest(bytes))
}

/// `2026-11-25T16:15:00.123Z` as `20261125T161500Z`: no name of a file needs more.
fn compact(time: &str) -> String {
    let seconds = time.split('.').next().unwrap_or(time).trim_end_matches('Z');
    let kept: String = seconds.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    format!("{kept}Z")
}

fn document(vm: &Vm) -> Option<String> {
    let configuration = vm.initialization.as_ref()?.configuration.as_ref()?;
    configuration.data.clone().filter(|data| !data.is_empty())
}

fn machine(vm: &Vm, id: String) -> Machine {
    let topology = vm.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
    let os = vm.os.as_ref();
    Machine {
        name: vm.head.name.clone().unwrap_or_else(|| id.clone()),
        id,
        description: vm.head.description.clone(),
        memory_bytes: vm.memory,
        memory_guaranteed_bytes: vm.memory_policy.as_ref().and_then(|policy| policy.guaranteed),
        sockets: topology.and_then(|topology| topology.sockets),
        cores: topology.and_then(|topology| topology.cores),
        threads: topology.and_then(|topology| topology.threads),
        kind: vm.kind.clone(),
        os: os.and_then(|os| os.kind.clone()),
        kernel: os.and_then(|os| os.kernel.clone()),
        initrd: os.and_then(|os| os.initrd.clone()),
        cmdline: os.and_then(|os| os.cmdline.clone()),
        firmware: vm.bios.as_ref().and_then(|bios| bios.kind.clone()),
    }
}

fn report(options: &RunOptions, point: &Manifest, warnings: &[String], took: Duration) -> Result<(), Trouble> {
    for warning in warnings {
        crate::client::shown::note(&format!("warning: {warning}"));
    }
    let dir = options.to.join(&point.point);
    if options.json {
        let value = serde_json::json!({
            "directory": dir, "point": point, "warnings": warnings, "milliseconds": took.as_millis(),
        });
        return super::print(&value.to_string());
    }
    let mut table = Table::new(&["DISK", "MODE", "SIZE", "READ", "ZEROED", "FILE", "TIME", "RATE"]);
    for disk in &point.disks {
        let time = Duration::from_millis(disk.milliseconds);
        table.row(vec![
            disk.alias.clone(),
            if disk.mode == DiskMode::Full {
                "full"
            } else {
                "incremental"
            }
            .to_owned(),
            BinaryBytes(disk.size_bytes).to_string(),
            BinaryBytes(disk.data_bytes).to_string(),
            BinaryBytes(disk.zero_bytes).to_string(),
            BinaryBytes(disk.file_bytes).to_string(),
            format!("{:.1} s", time.as_secs_f64()),
            format!("{}/s", BinaryBytes(per_second(disk.data_bytes, time))),
        ]);
    }
    let kind = if point.is_full() { "full" } else { "incremental" };
    super::print(&format!(
        "{}\n\npoint {} of {} ({kind}) is in {}, verified, after {:.1} s",
        table.text(),
        point.number,
        point.vm.name,
        dir.display(),
        took.as_secs_f64()
    ))
}
