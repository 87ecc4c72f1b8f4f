//! What goes wrong, as a page: what happened, and what to do next.

use crate::{answer, layout};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use maud::html;
use stillpoint_auth::AuthError;
use stillpoint_engine::Fault;
use stillpoint_types::FaultCode;

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nobody is signed in; where he wanted to go.
    Stranger(String),
    /// No such page, or a thing that is not there for him.
    Nowhere,
    /// The form was not one of ours, or is too old.
    Forged,
    /// What was posted is no form, or too long.
    BadForm(&'static str),
    /// The core refused.
    Fault(Fault),
    /// The auth room refused.
    Auth(AuthError),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<AuthError> for Trouble {
    fn from(error: AuthError) -> Self {
        Self::Auth(error)
    }
}

/// The status of a core's fault, for browsers and for programs that look at pages.
pub(crate) fn status_of(fault: &Fault) -> StatusCode {
    match fault.code {
        FaultCode::NotFound => StatusCode::NOT_FOUND,
        FaultCode::Forbidden => StatusCode::FORBIDDEN,
        FaultCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::CONFLICT,
    }
}

impl Trouble {
    /// Status, headline, and what to do.
    fn told(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::Stranger(_) => (StatusCode::UNAUTHORIZED, "Sign in", String::new()),
            Self::Nowhere => (
                StatusCode::NOT_FOUND,
                "Not here",
                "There is no such page, or no such thing in your projects. It may have been removed.".into(),
            ),
            Self::Forged => (
                StatusCode::FORBIDDEN,
                "Nothing was done",
                "The form did not come from this console, or the session has changed since. Open the page again and repeat it."
                    .into(),
            ),
            Self::BadForm(what) => (StatusCode::BAD_REQUEST, "Nothing was done", (*what).into()),
            Self::Fault(fault) => (status_of(fault), "That did not work", fault.text.clone()),
            Self::Auth(error) if matches!(error, AuthError::Busy) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many at once",
                "Too many people sign in at this moment. Try again in a few seconds.".into(),
            ),
            Self::Auth(error) if is_ours(error) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "That did not work",
                "The daemon's log has the cause.".into(),
            ),
            Self::Auth(error) => (StatusCode::CONFLICT, "That did not work", error.to_string()),
        }
    }
}

/// Whether the auth room failed, so that its text is for the log alone.
pub(crate) fn is_ours(error: &AuthError) -> bool {
    matches!(
        error,
        AuthError::File { .. }
            | AuthError::Key { .. }
            | AuthError::Sealed(_)
            | AuthError::Hash(_)
            | AuthError::Random(_)
            | AuthError::NotStarted
            | AuthError::Store(_)
            | AuthError::Bootstrap { .. }
    )
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response<Body> {
        if let Self::Stranger(wanted) = &self {
            let wanted: String = form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
            return answer::see_other(&format!("/console/login?next={wanted}"));
        }
        match &self {
            Self::Fault(fault) if fault.code == FaultCode::Internal => {
                tracing::error!(fault = fault.log_chain(), "a page failed");
            }
            Self::Auth(error) if is_ours(error) => {
                tracing::error!(error = error as &dyn std::error::Error, "a page failed");
            }
            _ => {}
        }
        let (status, headline, text) = self.told();
        let content = html! {
            p.lead { (text) }
            p { a href="/console/" { "To the virtual machines" } }
        };
        answer::page(status, layout::bare(headline, &content))
    }
}
