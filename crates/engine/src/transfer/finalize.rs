//! The end of a transfer whose client is done: access ends, what was written is durable, and an upload is verified.

use super::{REMOVE_LIMIT, Served, Transfer, id_of, row_of, watch::note_transferred};
use crate::{
    fault::Fault,
    journal::{Cx, Done, StepError},
    ports::{DriverErrorKind, ImageRef},
};
use stillpoint_store::{
    disk,
    image::{self, ImageState},
    transfer::TransferRow,
};
use stillpoint_types::{FaultCode, ImageFormat, TransferDirection};

impl Transfer {
    /// Once it is done, nothing that was answered can be lost any more: `close` may find the storage daemon gone.
    pub(super) async fn flush(&self, cx: &Cx) -> Result<Done, StepError> {
        let row = row_of(&cx.engine, id_of(cx.job.id)).await.map_err(StepError::later)?;
        let (plane, ticket) = (&cx.engine.data_plane, row.ticket.clone());
        let upload = row.direction == TransferDirection::Upload;
        if plane.status(&ticket).await.map_err(StepError::later)?.is_none() && upload {
            // After a restart: whether all that was written is still there is the storage daemon's to say.
            let served: Option<Served> = cx.output("serve")?;
            self.ensure_served(cx, &row, served.as_ref()).await?;
        }
        if let Some(status) = plane.status(&ticket).await.map_err(StepError::later)? {
            note_transferred(cx, &row, &status).await.map_err(StepError::later)?;
            if let Some(failure) = status.failure.filter(|_| upload) {
                return Err(Fault::new(FaultCode::Storage, failure).into());
            }
        }
        crate::backup::watch::keep_moved(&cx.engine, &row).await;
        match plane.remove(&ticket, REMOVE_LIMIT).await {
            Err(error) if error.kind == DriverErrorKind::Timeout || !upload => Err(StepError::later(error)),
            other => Ok(other.map(|()| Done::nothing())?),
        }
    }

    pub(super) async fn close(&self, cx: &Cx) -> Result<Done, StepError> {
        let closed = cx.engine.hypervisor.close_at_rest(cx.job.id).await;
        closed.map_err(StepError::later)?;
        let row = row_of(&cx.engine, id_of(cx.job.id)).await.map_err(StepError::later)?;
        if row.direction == TransferDirection::Download {
            return Ok(Done::nothing());
        }
        match &self.params.fresh {
            None => {
                crate::files::expect_recorded(&cx.engine, vec![row.disk]).await?;
                Ok(Done::nothing())
            }
            Some(fresh) => self.take_in(cx, row, fresh.clone()).await,
        }
    }

    /// A whole file was uploaded: if our own reader lets it through, it takes the place of the disk's image.
    async fn take_in(&self, cx: &Cx, row: TransferRow, fresh: ImageRef) -> Result<Done, StepError> {
        let refuse = |what: String| {
            let text = format!("What was uploaded to disk {} is not usable: {what}", row.alias);
            Fault::new(FaultCode::ImageRefused, text)
        };
        let (Some(directory), Some(name)) = (fresh.path.parent(), fresh.path.file_name()) else {
            return Err(Fault::internal("an image file without a place").into());
        };
        // Its own name first, which our reader judges it by: nothing names the image yet.
        cx.engine.images.rename(&self.staging()?, &fresh).await?;
        let judged = cx
            .engine
            .images
            .gate(directory, &name.to_string_lossy(), ImageFormat::Cow, &[])
            .await
            .map_err(|error| refuse(error.context.clone()).because(error.chain()))?;
        let before = self.params.layers.last().cloned();
        let before = before.ok_or_else(|| Fault::internal("a transfer without an image"))?;
        let has = judged.facts.size_bytes;
        let (id, old) = (fresh.id, before.id);
        let recorded = cx
            .engine
            .store
            .read(move |conn| -> Result<_, Fault> { Ok(image::get(conn, old)?.map(|image| image.size_bytes)) })
            .await?;
        if recorded != Some(has) {
            let expected = recorded.unwrap_or_default();
            return Err(refuse(format!(
                "it is a disk of {has} bytes, but the disk has {expected} bytes"
            ))
            .into());
        }
        Ok(Done::nothing().and(move |tx| {
            disk::get(tx, row.disk)?.ok_or_else(|| Fault::internal("the disk of a transfer is gone"))?;
            image::set_state(tx, id, ImageState::Live)?;
            disk::set_image(tx, row.disk, id)?;
            Ok(())
        }))
    }
}
