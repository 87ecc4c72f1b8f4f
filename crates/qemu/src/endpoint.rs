//! Block nodes behind a monitor: what a running machine and a storage daemon have in common.
//!
//! Everything is observed anew before it is changed; nothing of the graph is remembered but, for disks at rest, which
//! images were opened for which disk (no device is there to say it).
//!
//! The short critical sections (the window of a switch, the pivot of a merge) run in tasks of their own, so that a caller
//! that is dropped in the middle cannot leave a guest frozen or its writes held. `turn` keeps two of them apart.

use crate::{
    graph::{Observed, observe, observe_tops},
    machine::command_line::image_nodes,
    merge,
    monitor::Monitor,
    names::{format_node, protocol_node},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stillpoint_engine::ports::{BlockGraph, Chain, Driven, DriverError, DriverErrorKind, ImageRef, Merge, Progress};
use stillpoint_types::{DiskId, ImageId};
use tokio::sync::OwnedMutexGuard;

/// Longest time that another critical section may take.
const TURN_LIMIT: Duration = Duration::from_secs(60);

/// Per disk, the images that were opened for it.
pub(crate) type Opened = Vec<(DiskId, Vec<ImageId>)>;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    pub(crate) monitor: Arc<Monitor>,
    at_rest: Option<Arc<Mutex<Opened>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Blocks {
    /// Of a machine: devices tell which disk uses which node.
    pub(crate) fn of_machine(monitor: Arc<Monitor>) -> Self {
        Self {
            monitor,
            at_rest: None,
            turn: Arc::default(),
        }
    }

    /// Of a storage daemon.
    pub(crate) fn at_rest(monitor: Arc<Monitor>) -> Self {
        Self {
            monitor,
            at_rest: Some(Arc::default()),
            turn: Arc::default(),
        }
    }

    /// Whether no guest can write.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.at_rest.is_some()
    }

    /// Remembers the images that belong to these disks.
    pub(crate) fn remember(&self, chains: &[Chain]) {
        if let Some(disks) = &self.at_rest {
            let images = |chain: &Chain| chain.images.iter().map(|image| image.id).collect();
            *disks.lock().unwrap_or_else(PoisonError::into_inner) =
                chains.iter().map(|chain| (chain.disk, images(chain))).collect();
        }
    }

    pub(crate) async fn observe(&self) -> Driven<Observed> {
        let at_rest = self
            .at_rest
            .as_ref()
            .map(|disks| disks.lock().unwrap_or_else(PoisonError::into_inner).clone());
        observe(&self.monitor, at_rest.as_deref()).await
    }

    /// What a machine can be asked cheaply: see [`observe_tops`]. At rest there is no guest to spare.
    pub(crate) async fn observe_tops(&self) -> Driven<Observed> {
        match &self.at_rest {
            None => observe_tops(&self.monitor).await,
            Some(_) => self.observe().await,
        }
    }

    /// The right to be in a critical section.
    pub(crate) async fn turn(&self, op: &'static str) -> Driven<OwnedMutexGuard<()>> {
        let turn = Arc::clone(&self.turn).lock_owned();
        tokio::time::timeout(TURN_LIMIT, turn)
            .await
            .map_err(|_elapsed| DriverError::new(DriverErrorKind::Busy, op, "another block operation does not end"))
    }

    pub(crate) async fn graph(&self) -> Driven<BlockGraph> {
        Ok(self.observe().await?.graph())
    }

    /// All at once: QEMU answers one client's commands in their order, and we do not wait in between. Most often none of
    /// them is open; only where that is not so is it looked what an earlier try has left.
    pub(crate) async fn open_overlays(&self, overlays: &[ImageRef]) -> Driven<()> {
        const OP: &str = "open overlay";
        let mut nodes = Vec::with_capacity(overlays.len());
        for overlay in overlays {
            nodes.push((overlay.id, image_nodes(overlay, None, false)?));
        }
        let add = async |(image, [protocol, format]): (ImageId, [Value; 2])| {
            // Both nodes by one command.
            let mut nested = format.clone();
            nested["file"] = protocol.clone();
            if self.monitor.run(OP, "blockdev-add", nested).await.is_ok() {
                return Ok(());
            }
            let observed = self.observe().await?;
            self.add_image(&observed, OP, image, [protocol, format]).await
        };
        // Not the first failure ends it: every call tidies up after itself.
        join_all(nodes.into_iter().map(add)).await.into_iter().collect()
    }

    /// Adds what is missing of an image's two nodes; leaves nothing behind if it fails.
    pub(crate) async fn add_image(
        &self,
        observed: &Observed,
        op: &'static str,
        image: ImageId,
        [protocol, format]: [Value; 2],
    ) -> Driven<()> {
        if observed.image(image).is_some() {
            return Ok(());
        }
        if !observed.has(&protocol_node(image)) {
            self.monitor.run(op, "blockdev-add", protocol).await?;
        }
        if let Err(error) = self.monitor.run(op, "blockdev-add", format).await {
            let node = json!({"node-name": protocol_node(image)});
            if let Err(left) = self.monitor.run(op, "blockdev-del", node).await {
                tracing::warn!(%image, error = left.chain(), "protocol node left open");
            }
            return Err(error);
        }
        Ok(())
    }

    pub(crate) async fn close_image(&self, image: ImageId) -> Driven<()> {
        for node in [format_node(image), protocol_node(image)] {
            let node = json!({"node-name": node});
            match self.monitor.run("close image", "blockdev-del", node).await {
                // Was not open; or has gone with the format node that it was added with.
                Err(error) if error.kind == DriverErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    pub(crate) async fn merge(&self, merge: &Merge, progress: Progress<'_>) -> Driven<()> {
        merge::merge(self, merge, progress).await
    }

    pub(crate) async fn cancel_merge(&self, merge: &Merge) -> Driven<()> {
        merge::cancel(self, merge).await
    }
}
