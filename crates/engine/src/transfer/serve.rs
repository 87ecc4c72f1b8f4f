//! Opens what is moved, and gives the data plane its ticket: both as *ensure*, by the job's id and the ticket's name.

use super::{Params, REMOVE_LIMIT, Served, TICKET_VALID, Transfer, event, id_of, row_of, unfinished};
use crate::{
    event::What,
    fault::Fault,
    journal::{Cx, Done, StepError},
    ports::{Allocation, Chain, DriverErrorKind, Export, ImageRef, Rights, Source, Ticket},
};
use stillpoint_store::{
    Tx,
    image::{self, ImageState},
    transfer::{self, TransferRow},
};
use stillpoint_types::{FaultCode, ImageFormat, TransferDirection, TransferPhase, now_micros};

/// A qcow2 file of a full disk is this much larger than the disk, at most: tables of a full image, and room for header and
/// bitmaps (oVirt allows a tenth).
fn file_room(size_bytes: u64) -> u64 {
    (size_bytes + size_bytes / 10 + (4 << 20)).next_multiple_of(4096)
}

impl Transfer {
    pub(super) async fn serve(&self, cx: &Cx) -> Result<Done, StepError> {
        let id = id_of(cx.job.id);
        let mut row = row_of(&cx.engine, id).await?;
        if row.backup.is_some() {
            // The disk itself goes on, and may be changing just now.
            crate::files::expect_chain_recorded(&cx.engine, &row.alias, row.image).await?;
        } else {
            crate::files::expect_recorded(&cx.engine, vec![row.disk]).await?;
        }
        row.size_bytes = self.size(cx, &row).await?;
        let served = self.ensure_served(cx, &row, None).await?;
        let actor = cx.actor();
        Ok(Done::output(&served)?.and(move |tx| {
            transfer::set_size(tx, id, row.size_bytes)?;
            let (now, from) = (now_micros(), [TransferPhase::Initializing]);
            transfer::touch(tx, id, now)?;
            // Cancelled meanwhile: the next step sees it.
            transfer::set_phase(tx, id, &from, TransferPhase::Transferring, None, now)?;
            event(What::TransferStarted, &row, "it was initiated.")
                .by(&actor)
                .write(tx)
        }))
    }

    /// Bytes that the client can reach.
    async fn size(&self, cx: &Cx, row: &TransferRow) -> Result<u64, Fault> {
        match (row.format, row.direction) {
            (ImageFormat::Raw, _) => Ok(row.size_bytes),
            (ImageFormat::Cow, TransferDirection::Download) => {
                // Looked at as raw, a file's size is its length.
                let file = &self.top()?.path;
                let facts = cx.engine.images.inspect(file, Some(ImageFormat::Raw)).await?;
                Ok(facts.size_bytes)
            }
            (ImageFormat::Cow, TransferDirection::Upload) => {
                let room = file_room(row.size_bytes);
                let staging = self.staging()?;
                let made = cx.engine.images.create_base(&staging, room, Allocation::Sparse);
                made.await?;
                Ok(room)
            }
        }
    }

    fn top(&self) -> Result<&ImageRef, Fault> {
        self.params
            .layers
            .last()
            .ok_or_else(|| Fault::internal("a transfer without an image"))
    }

    /// The file that is uploaded, as the bytes that it is until it has been verified.
    pub(super) fn staging(&self) -> Result<ImageRef, Fault> {
        let staging = self.params.staging.clone();
        staging.ok_or_else(|| Fault::internal("an upload of a file without a place for it"))
    }

    /// Opens the image if it is not open, and adds the ticket if it is not there.
    ///
    /// # Errors
    /// Among others: an upload's earlier storage daemon has ended without a flush.
    pub(super) async fn ensure_served(
        &self,
        cx: &Cx,
        row: &TransferRow,
        before: Option<&Served>,
    ) -> Result<Served, Fault> {
        if let Some(source) = self.in_process(row)? {
            let is_chain = matches!(source, Source::Chain(_));
            match cx.engine.data_plane.add(self.ticket(row, source)).await {
                Ok(()) => return Ok(Self::served(cx, Served { process: None })),
                // QEMU knows more kinds of images; and perhaps it serves this one already.
                Err(error)
                    if is_chain
                        && matches!(
                            error.kind,
                            DriverErrorKind::Unsupported | DriverErrorKind::AlreadyExists
                        ) =>
                {
                    tracing::info!(transfer = %row.id, why = error.chain(), "a storage daemon serves an image");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (source, served) = self.open(cx, row).await?;
        if row.direction == TransferDirection::Upload && before.is_some_and(|before| *before != served) {
            return Err(Fault::new(
                FaultCode::Storage,
                "The storage daemon that wrote the upload has ended; what it had not flushed may be lost. Upload again.",
            ));
        }
        cx.engine.data_plane.add(self.ticket(row, source)).await?;
        Ok(Self::served(cx, served))
    }

    fn served(cx: &Cx, served: Served) -> Served {
        cx.engine.served.send_modify(|count| *count += 1);
        served
    }

    fn ticket(&self, row: &TransferRow, source: Source) -> Ticket {
        let upload = row.direction == TransferDirection::Upload;
        Ticket {
            id: row.ticket.clone(),
            source,
            dirty: self.params.dirty.clone(),
            size_bytes: row.size_bytes,
            rights: Rights {
                // A client of an upload reads back what the disk has to compare with (and needs extents).
                read: true,
                write: upload,
            },
            valid_for: TICKET_VALID,
            file_name: (!upload).then(|| file_name(row)),
            transfer: row.id.to_string(),
        }
    }

    /// What the data plane reads itself: what a download reads is frozen, or its disk is locked (ADR 0013).
    fn in_process(&self, row: &TransferRow) -> Result<Option<Source>, Fault> {
        let layers = &self.params.layers;
        if row.direction == TransferDirection::Upload {
            return Ok(None);
        }
        let alone = layers.len() == 1 && layers.iter().all(|layer| layer.format == ImageFormat::Raw);
        if alone || row.format == ImageFormat::Cow {
            // The bytes of one file, which our lock keeps others from writing to.
            return Ok(Some(Source::Raw(self.top()?.path.clone())));
        }
        Ok(Some(Source::Chain(layers.clone())))
    }

    async fn open(&self, cx: &Cx, row: &TransferRow) -> Result<(Source, Served), Fault> {
        let Params { layers, staging, .. } = &self.params;
        let images = match staging {
            Some(staging) => vec![staging.clone()],
            None => layers.clone(),
        };
        let export = Export {
            chain: Chain { disk: row.disk, images },
            writable: row.direction == TransferDirection::Upload,
        };
        let exported = cx.engine.hypervisor.open_export(cx.job.id, &export).await?;
        let source = Source::Nbd {
            socket: exported.socket,
            export: exported.name,
            dirty_context: None,
        };
        let process = Some(exported.process);
        Ok((source, Served { process }))
    }

    /// Takes ticket and storage daemon away, of a transfer that did not end well.
    pub(super) async fn withdraw(&self, cx: &Cx) -> Result<(), StepError> {
        let id = id_of(cx.job.id);
        let row = row_of(&cx.engine, id).await.map_err(StepError::later)?;
        let by_user = matches!(
            row.phase,
            TransferPhase::CancelledUser | TransferPhase::FinalizingCleanup
        );
        let to = if by_user {
            TransferPhase::FinalizingCleanup
        } else {
            TransferPhase::FinalizingFailure
        };
        let write = move |tx: &Tx| -> Result<_, Fault> {
            Ok(transfer::set_phase(tx, id, &unfinished(), to, None, now_micros())?)
        };
        cx.engine.store.write(write).await.map_err(StepError::later)?;
        let ticket = row.ticket.clone();
        let removed = cx.engine.data_plane.remove(&ticket, REMOVE_LIMIT).await;
        if let Err(error) = removed {
            // What could not be flushed is of no use any more, now or at any later try. But nothing may be closed, and no lock
            // given back, as long as something may still be written.
            cx.engine.data_plane.forget(&ticket).await.map_err(StepError::later)?;
            let status = cx.engine.data_plane.status(&ticket).await.map_err(StepError::later)?;
            if status.is_some() {
                return Err(StepError::later(error));
            }
            tracing::warn!(transfer = %id, error = error.chain(), "a given up transfer ended unclean");
        }
        let closed = cx.engine.hypervisor.close_at_rest(cx.job.id).await;
        closed.map_err(StepError::later)?;
        match &self.params.staging {
            Some(staging) => cx.engine.images.remove(staging).await.map_err(StepError::later),
            None => Ok(()),
        }
    }

    /// The place of an uploaded file that is not going to be used: [`crate::reconcile::tidy`] removes it.
    pub(super) fn forget_fresh(&self, tx: &Tx) -> Result<(), Fault> {
        match &self.params.fresh {
            Some(fresh) => Ok(image::set_state(tx, fresh.id, ImageState::Doomed)?),
            None => Ok(()),
        }
    }
}

/// Name of the file that a browser saves.
fn file_name(row: &TransferRow) -> String {
    let ending = match row.format {
        ImageFormat::Cow => "qcow2",
        ImageFormat::Raw => "raw",
    };
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '_'
        }
    };
    format!("{}.{ending}", row.alias.chars().map(plain).collect::<String>())
}
