//! Disks at rest: one `qemu-storage-daemon` for each job that needs one.
//!
//! It takes the same commands as a running QEMU. Its top layers are open read-write, which marks their bitmaps as in use
//! on disk: it must end by `quit`, which stores them, and is never killed while it can still answer.

use crate::{
    endpoint::Blocks,
    failure::io_failed,
    grow::grow,
    layout::{RunDir, utf8},
    machine::command_line::chain_nodes,
    monitor::Monitor,
    names::format_node,
    process::Process,
    switch::{self, Freeze},
};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use std::{
    os::{
        fd::OwnedFd,
        unix::net::{self, UnixListener},
    },
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use stillpoint_engine::ports::{
    BlockGraph, Chain, Driven, DriverError, DriverErrorKind, Endpoint, Export, Frozen, ImageRef, Merge, Progress,
    Switch, SwitchReport,
};
use stillpoint_types::{DiskId, ImageFormat, ImageId};
use tokio::net::UnixStream;

/// Storing large bitmaps on slow storage takes its time.
const QUIT_LIMIT: Duration = Duration::from_secs(120);

/// A storage daemon and the disks it has open.
#[derive(Debug)]
pub(crate) struct AtRest {
    process: Process,
    monitor: Arc<Monitor>,
    blocks: Blocks,
}

/// Name and id of the one export that a storage daemon has. Its socket is in a directory of our own, mode 0700: who can
/// open that needs no secret name.
const EXPORT: &str = "disk";

/// What a storage daemon is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Work on chains through its monitor.
    Work,
    /// The same, with an NBD server.
    Serve,
}

/// Settings of glibc's `malloc` (`mallopt(3)`), in bytes: what a request needed is kept for the next. Else the memory of each
/// write is mapped, its pages are faulted in one by one, and it is unmapped again.
pub(crate) const SETTINGS: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "8388608"),
    ("MALLOC_TRIM_THRESHOLD_", "67108864"),
];

/// How the top of a chain is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Top {
    ReadOnly,
    Writable,
    /// As writable; a qcow2 image beside the host's page cache, if its file system can (`cache.direct` of QEMU's
    /// BlockdevOptions): what is uploaded goes to the storage while more comes, and a flush has little left to wait for. A
    /// raw one would then take whole blocks only.
    Uploaded,
}

/// An export that a storage daemon has.
#[derive(Debug, Deserialize)]
struct Block {
    id: String,
    #[serde(rename = "shutting-down")]
    is_ending: bool,
}

/// Its arguments. The pid file's path is also what a process is recognised by.
pub(crate) fn arguments(run_dir: &RunDir, purpose: Purpose) -> Driven<Vec<String>> {
    const OP: &str = "build command line";
    let pid_file = run_dir.pid();
    let mut words = vec![
        "--chardev".to_owned(),
        // Its standard input is the socket of `listen`.
        "socket,id=qmp,fd=0,server=on,wait=on".to_owned(),
        "--monitor".to_owned(),
        "chardev=qmp".to_owned(),
        "--pidfile".to_owned(),
        utf8(OP, &pid_file)?.to_owned(),
    ];
    if purpose == Purpose::Serve {
        let socket = run_dir.nbd();
        let socket = utf8(OP, &socket)?.replace(',', ",,");
        words.extend(["--nbd-server".to_owned(), format!("addr.type=unix,addr.path={socket}")]);
    }
    Ok(words)
}

/// The socket of the monitor, which the storage daemon gets as its standard input; and a connection to it, for which the
/// storage daemon waits.
///
/// The connection is made before the storage daemon starts. One that has its monitor's socket already served by its main
/// loop moves it to the monitor's thread: a client that comes meanwhile is served by both. Each reads some of its bytes, or
/// one of them stands in `accept4(2)` for ever (QEMU 7.2; both seen, about once in a few hundred starts of a busy host).
pub(crate) fn listen(run_dir: &RunDir) -> Driven<(Stdio, UnixStream)> {
    const OP: &str = "listen for a monitor";
    let path = run_dir.qmp();
    let made = || {
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        let first = net::UnixStream::connect(&path)?;
        first.set_nonblocking(true)?;
        Ok((OwnedFd::from(listener).into(), UnixStream::from_std(first)?))
    };
    made().map_err(|error| io_failed(OP, &path, error))
}

impl AtRest {
    pub(crate) fn new(process: Process, monitor: Monitor) -> Self {
        let monitor = Arc::new(monitor);
        Self {
            process,
            blocks: Blocks::at_rest(Arc::clone(&monitor)),
            monitor,
        }
    }

    pub(crate) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Opens what is not open yet, and remembers whose it is.
    pub(crate) async fn open(&self, chains: &[Chain]) -> Driven<()> {
        self.blocks.remember(chains);
        for chain in chains {
            self.open_chain("open image at rest", chain, Top::Writable).await?;
        }
        Ok(())
    }

    /// One look a chain: an image stands in it once, but may stand in several.
    async fn open_chain(&self, op: &'static str, chain: &Chain, top: Top) -> Driven<()> {
        let observed = self.blocks.observe().await?;
        let active = chain.active();
        let beside_cache = top == Top::Uploaded && active.format == ImageFormat::Cow;
        for (image, nodes) in chain_nodes(chain, top == Top::ReadOnly)? {
            if beside_cache && image == active.id {
                let [mut protocol, format] = nodes.clone();
                protocol["cache"] = json!({"direct": true});
                match self.blocks.add_image(&observed, op, image, [protocol, format]).await {
                    Ok(()) => continue,
                    Err(error) => tracing::debug!(%image, error = error.chain(), "not opened beside the page cache"),
                }
            }
            self.blocks.add_image(&observed, op, image, nodes).await?;
        }
        Ok(())
    }

    /// Opens the chain, if it is not open, and serves its top over NBD, if that is not served.
    pub(crate) async fn export(&self, export: &Export) -> Driven<&'static str> {
        const OP: &str = "serve image";
        let chain = &export.chain;
        self.blocks.remember(std::slice::from_ref(chain));
        let top = if export.writable { Top::Uploaded } else { Top::ReadOnly };
        self.open_chain(OP, chain, top).await?;
        let there: Vec<Block> = self.monitor.call(OP, "query-block-exports", json!({})).await?;
        match there.iter().find(|block| block.id == EXPORT) {
            Some(block) if block.is_ending => Err(DriverError::new(DriverErrorKind::Busy, OP, "the export is ending")),
            Some(_) => Ok(EXPORT),
            None => {
                let add = json!({"type": "nbd", "id": EXPORT, "name": EXPORT, "writable": export.writable,
                                 "node-name": format_node(chain.active().id)});
                self.monitor.run(OP, "block-export-add", add).await?;
                Ok(EXPORT)
            }
        }
    }

    /// Ends it, cleanly.
    pub(crate) async fn quit(&self) -> Driven<()> {
        if let Err(error) = self.monitor.run("end storage daemon", "quit", json!({})).await
            && error.kind != DriverErrorKind::Disconnected
        {
            return Err(error);
        }
        if self.process.ended_within(QUIT_LIMIT).await {
            return Ok(());
        }
        let text = format!("pid {} does not end", self.process.record().pid);
        Err(DriverError::new(DriverErrorKind::Timeout, "end storage daemon", text))
    }
}

#[async_trait]
impl Endpoint for AtRest {
    async fn graph(&self) -> Driven<BlockGraph> {
        self.blocks.graph().await
    }

    async fn open_overlays(&self, overlays: &[ImageRef]) -> Driven<()> {
        self.blocks.open_overlays(overlays).await
    }

    async fn close_image(&self, image: ImageId) -> Driven<()> {
        self.blocks.close_image(image).await
    }

    async fn switch(&self, switch: &Switch) -> Driven<SwitchReport> {
        let look = || (self.blocks.observe_tops(), async { Ok(Freeze::Not(Frozen::NotAsked)) });
        switch::run(&self.blocks, switch, look).await
    }

    async fn merge(&self, merge: &Merge, progress: Progress<'_>) -> Driven<()> {
        self.blocks.merge(merge, progress).await
    }

    async fn cancel_merge(&self, merge: &Merge) -> Driven<()> {
        self.blocks.cancel_merge(merge).await
    }

    async fn grow(&self, disk: DiskId, active: &ImageRef, size_bytes: u64) -> Driven<()> {
        grow(&self.blocks, disk, active, size_bytes).await
    }
}
