//! One disk of a new point: from its transfer into its file, and the file read again.

use super::{
    Trouble, blocking,
    download::{self, NoMap},
    folder::Partial,
    point::{self, Backing, DiskMode},
    qcow2::{self, Checks, Image, Kind, Map, Mode, Qcow2Error, Way, Writer},
    run::Run,
    ticket::{self, IDLE_S, Ticket},
};
use std::{sync::Arc, time::Instant};
use stillpoint_sdk::{by_id, types::ImageTransfer};

/// A disk of the VM, as it is to be read.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) alias: String,
    pub(super) is_bootable: bool,
    pub(super) interface: Option<String>,
    pub(super) size_bytes: u64,
    pub(super) mode: DiskMode,
    pub(super) why_full: Option<String>,
    pub(super) backing: Option<Backing>,
}

/// A disk whose file is written, and not yet read again.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) disk: point::Disk,
    /// The checks of what came.
    pub(super) came: Checks,
}

impl Run<'_> {
    /// Reads all disks, one after the other.
    pub(super) async fn read_all(
        &self,
        partial: &Partial,
        wanted: &mut [Wanted],
        backup: Option<&str>,
    ) -> Result<Vec<Written>, Trouble> {
        let mut tickets: Vec<Option<Ticket>> = Vec::new();
        for disk in &*wanted {
            // Disks at rest must all be locked before the first is read: they are one moment only then.
            tickets.push(match backup {
                None => Some(self.open(disk, None).await?),
                Some(_) => None,
            });
        }
        let mut written = Vec::new();
        for (index, (disk, ticket)) in wanted.iter_mut().zip(tickets).enumerate() {
            let ticket = match ticket {
                Some(ticket) => ticket,
                None => self.open(disk, backup).await?,
            };
            let file = format!("disk{}.qcow2", index + 1);
            let context = format!("disk {} could not be backed up", disk.alias);
            let one = self.read_one(partial, disk, ticket, file).await;
            written.push(one.map_err(|trouble| trouble.context(context))?);
        }
        Ok(written)
    }

    async fn open(&self, disk: &Wanted, backup: Option<&str>) -> Result<Ticket, Trouble> {
        let wanted = ImageTransfer {
            direction: Some("download".into()),
            format: Some("raw".into()),
            // Disks at rest wait for each other.
            inactivity_timeout: Some(if backup.is_some() { IDLE_S } else { 24 * 3600 }),
            timeout_policy: Some("cancel".into()),
            backup: backup.map(|id| Box::new(by_id(id))),
            disk: Some(Box::new(by_id(&disk.id))),
            ..ImageTransfer::default()
        };
        let opened = ticket::open(&self.connection, &self.opened, &wanted, self.options.connections.into()).await;
        opened.map_err(|trouble| trouble.context(format!("disk {} cannot be read", disk.alias)))
    }

    /// Reads one disk into its file and ends its transfer.
    async fn read_one(
        &self,
        partial: &Partial,
        disk: &mut Wanted,
        ticket: Ticket,
        file: String,
    ) -> Result<Written, Trouble> {
        let begin = Instant::now();
        let map = self.map(&ticket, disk).await?;
        let (data_bytes, zero_bytes) = (map.bytes_of(Kind::Data), map.bytes_of(Kind::Zero));
        let (path, backing) = (partial.file(&file), disk.backing.as_ref().map(Backing::name));
        let writer =
            Arc::new(blocking(move || Ok(Writer::create(&path, map, backing.as_deref(), Way::Direct)?)).await?);
        let bar = self.progress.begin(disk.alias.as_str(), data_bytes);
        let came = download::download(&ticket.image, &writer, ticket.connections, ticket.many_ranges, &bar).await;
        bar.end();
        let came = came?;
        ticket.finish(&self.opened).await?;
        let took = begin.elapsed();
        let writer = Arc::into_inner(writer).expect("all that wrote has ended with the download");
        let file_bytes = writer.layout().file_bytes();
        blocking(move || Ok(writer.finish()?)).await?;
        Ok(Written {
            came,
            disk: point::Disk {
                id: disk.id.clone(),
                alias: disk.alias.clone(),
                bootable: disk.is_bootable,
                interface: disk.interface.clone(),
                mode: disk.mode,
                why_full: disk.why_full.clone(),
                size_bytes: disk.size_bytes,
                file,
                file_bytes,
                backing: disk.backing.clone(),
                sha256: String::new(),
                content_sha256: String::new(),
                data_bytes,
                zero_bytes,
                milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            },
        })
    }

    async fn map(&self, ticket: &Ticket, disk: &mut Wanted) -> Result<Map, Trouble> {
        if disk.mode == DiskMode::Incremental {
            match download::map_of(&ticket.image, disk.size_bytes, Mode::Incremental).await {
                Ok(map) => return Ok(map),
                Err(NoMap::Trouble(trouble)) => return Err(trouble),
                Err(NoMap::NotTracked) => {
                    disk.mode = DiskMode::Full;
                    disk.backing = None;
                    disk.why_full = Some("the server has no changed extents for it".to_owned());
                }
            }
        }
        match download::map_of(&ticket.image, disk.size_bytes, Mode::Full).await {
            Ok(map) => Ok(map),
            Err(NoMap::Trouble(trouble)) => Err(trouble),
            Err(NoMap::NotTracked) => Err(Trouble::new("the server lists no extents")),
        }
    }

    /// Reads all files again, one after the other.
    pub(super) async fn read_all_again(
        &self,
        partial: &Partial,
        written: Vec<Written>,
    ) -> Result<Vec<point::Disk>, Trouble> {
        let mut disks = Vec::with_capacity(written.len());
        for disk in written {
            disks.push(self.read_again(partial, disk).await?);
        }
        Ok(disks)
    }

    /// Reads a file again, from the disk itself as far as the system allows, and compares it with what came.
    async fn read_again(&self, partial: &Partial, written: Written) -> Result<point::Disk, Trouble> {
        let Written { mut disk, came } = written;
        let (path, alias) = (partial.file(&disk.file), disk.alias.clone());
        let bar = self
            .progress
            .begin(format!("{} (verifying)", disk.alias), disk.file_bytes);
        // The bar is told by the reading thread, over a channel: it lives here.
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let reading = blocking(move || {
            let image = Image::open(&path)?;
            let read = |bytes| {
                if told.send(bytes).is_err() {
                    tracing::debug!("nobody looks at the progress any more");
                }
            };
            match qcow2::digest(&image, Some(&came), Way::Direct, read) {
                Err(Qcow2Error::Differs) => {
                    let text = format!("the file of disk {alias} does not hold what was written into it");
                    Err(Trouble::new(text).hint("the directory's disk, or this host's memory, is broken"))
                }
                digests => Ok(digests?),
            }
        });
        let counting = async {
            while let Some(bytes) = heard.recv().await {
                bar.add(bytes);
            }
        };
        let (digests, ()) = tokio::join!(reading, counting);
        bar.end();
        let digests = digests?;
        disk.sha256 = digests.file;
        disk.content_sha256 = digests.content;
        Ok(disk)
    }
}
