//! Image transfers: the control plane's side. The bytes themselves: [`ImageClient`](crate::ImageClient).

use super::{ImageTransferService, ImageTransfersService, requests};
use crate::{
    CallOptions, Request,
    types::{Action, ImageTransfer},
};

requests!(ImageTransfersService, ImageTransfer, list, add);
requests!(ImageTransferService, ImageTransfer, get);

impl ImageTransferService {
    /// Ends the transfer well. Poll until its phase says that it ended, or until it is gone.
    pub fn finalize(&self, options: CallOptions) -> Request<Action> {
        self.0.action("finalize", &Action::default(), options.0)
    }

    /// Gives the transfer up.
    pub fn cancel(&self, options: CallOptions) -> Request<Action> {
        self.0.action("cancel", &Action::default(), options.0)
    }

    /// Says that the client is still there.
    pub fn extend(&self, options: CallOptions) -> Request<Action> {
        self.0.action("extend", &Action::default(), options.0)
    }

    /// Halts an upload.
    pub fn pause(&self, options: CallOptions) -> Request<Action> {
        self.0.action("pause", &Action::default(), options.0)
    }

    /// Lets a halted transfer go on.
    pub fn resume(&self, options: CallOptions) -> Request<Action> {
        self.0.action("resume", &Action::default(), options.0)
    }
}
