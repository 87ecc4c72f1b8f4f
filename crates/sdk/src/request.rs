//! A call that was made: it is sent when it is awaited, or was sent at once (`wait(false)`).

use crate::Error;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// The answer to come. Awaiting it gives the answer.
///
/// Dropping it before it was awaited means that nothing is sent, unless the option `wait` was `false`: then the request
/// has been sent, and is carried out all the same.
#[must_use = "nothing is sent until it is awaited, unless the option `wait` is false"]
pub struct Request<T>(Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>);

impl<T: Send + 'static> Request<T> {
    pub(crate) fn new(call: impl Future<Output = Result<T, Error>> + Send + 'static, is_sent_now: bool) -> Self {
        if !is_sent_now {
            return Self(Box::pin(call));
        }
        let sent = tokio::spawn(call);
        Self(Box::pin(async move {
            match sent.await {
                Ok(answer) => answer,
                // The runtime is being shut down, or the task panicked: the caller gets no more than that.
                Err(error) => Err(Error::transport("a request sent before", error)),
            }
        }))
    }
}

impl<T> Future for Request<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")
    }
}
