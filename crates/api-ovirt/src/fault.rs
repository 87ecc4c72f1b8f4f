//! What went wrong, as this dialect says it: status, reason, detail.
//!
//! Codes of the core become answers in one table without a wildcard. What only HTTP knows (a path, a method, a media
//! type) has its own constructors. `reason` texts are the ones that oVirt Engine uses: clients match on them.

use crate::route::Shape;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use stillpoint_engine::Fault;
use stillpoint_types::FaultCode;
use stillpoint_wire::{Dialect, Form, WireError, WireErrorKind, model};

/// oVirt's reason for nearly everything.
const FAILED: &str = "Operation Failed";
/// oVirt's reason for a body that is no document of the expected kind.
const SYNTAX: &str = "Request syntactically incorrect.";
/// What a client without credentials is told to bring.
const CHALLENGE: &str = "Basic realm=\"RESTAPI\"";

/// A request that was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    status: StatusCode,
    reason: &'static str,
    detail: String,
    /// What only the log may have.
    log: Option<String>,
    header: Option<(HeaderName, HeaderValue)>,
    /// The body was not understood: where its use is described.
    usage: Option<String>,
}

/// How the detail of a fault is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// As it is.
    Plain,
    /// In square brackets: oVirt's form for a list of validation messages.
    List,
}

/// Status, reason and form of each code of the core.
fn table(code: FaultCode) -> (StatusCode, &'static str, Detail) {
    use Detail::{List, Plain};
    match code {
        FaultCode::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized", Plain),
        FaultCode::Forbidden => (StatusCode::FORBIDDEN, FAILED, List),
        FaultCode::NotFound => (StatusCode::NOT_FOUND, FAILED, Plain),
        FaultCode::Incomplete => (StatusCode::BAD_REQUEST, "Incomplete parameters", Plain),
        FaultCode::InvalidValue => (StatusCode::BAD_REQUEST, "Invalid value", Plain),
        FaultCode::OutOfRange => (StatusCode::BAD_REQUEST, "Value out of range", Plain),
        FaultCode::Malformed => (StatusCode::BAD_REQUEST, SYNTAX, Plain),
        FaultCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Request too large", Plain),
        FaultCode::RelatedNotFound
        | FaultCode::TooLong
        | FaultCode::Duplicate
        | FaultCode::Unsupported
        | FaultCode::DiskNotAttached
        | FaultCode::BackupIdInUse
        | FaultCode::SnapshotBroken => (StatusCode::BAD_REQUEST, FAILED, List),
        FaultCode::NameInUse
        | FaultCode::IdInUse
        | FaultCode::Locked
        | FaultCode::DuringSnapshot
        | FaultCode::VmStatus
        | FaultCode::SnapshotNotRegular
        | FaultCode::InPreview
        | FaultCode::DiskAttached
        | FaultCode::ImageIllegal
        | FaultCode::ChainTooDeep
        | FaultCode::NoSpace
        | FaultCode::ImageRefused
        | FaultCode::TransferPhase
        | FaultCode::DuringBackup
        | FaultCode::BackupPhase
        | FaultCode::DiskNotActive
        | FaultCode::DiskChoice
        | FaultCode::VolumeStatus
        | FaultCode::HasDependants
        | FaultCode::Protected
        | FaultCode::Quota
        | FaultCode::Changed
        | FaultCode::GuestAgent
        | FaultCode::Storage => (StatusCode::CONFLICT, FAILED, List),
        FaultCode::HostUnreachable | FaultCode::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, FAILED, List),
        FaultCode::Hypervisor => (StatusCode::INTERNAL_SERVER_ERROR, FAILED, List),
        FaultCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, FAILED, Plain),
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let (status, reason, detail) = table(fault.code);
        let mut refused = Self::new(
            status,
            reason,
            match detail {
                Detail::Plain => fault.text.clone(),
                Detail::List => format!("[{}]", fault.text),
            },
        );
        if status.is_server_error() {
            refused.0.log = Some(fault.log_chain());
        }
        match status {
            StatusCode::UNAUTHORIZED => refused.with_header(header::WWW_AUTHENTICATE, CHALLENGE),
            StatusCode::SERVICE_UNAVAILABLE => refused.with_header(header::RETRY_AFTER, "2"),
            _ => refused,
        }
    }
}

impl Refused {
    fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            reason,
            detail: detail.into(),
            log: None,
            header: None,
            usage: None,
        }))
    }

    fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// 401 that asks for credentials.
    pub(crate) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", detail).with_header(header::WWW_AUTHENTICATE, CHALLENGE)
    }

    /// 403: the session is protected against forged requests, and this one does not prove that it is the client's.
    pub(crate) fn forged() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            FAILED,
            "The session is protected: requests need a header JSESSIONID that equals the cookie",
        )
    }

    /// 404 for a path that leads nowhere.
    pub(crate) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, FAILED, "There is nothing at this path")
    }

    /// 404 for an id in the path that is no id: nothing can have it.
    pub(crate) fn not_found(id: &str) -> Self {
        let shown: String = id.chars().take(64).collect();
        Self::new(StatusCode::NOT_FOUND, FAILED, format!("Entity not found: {shown}"))
    }

    /// 405 with the methods that the path has.
    pub(crate) fn method_not_allowed(allowed: &[Method]) -> Self {
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let names = names.join(", ");
        let mut refused = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            FAILED,
            format!("The method is not allowed here; allowed: {names}"),
        );
        refused.0.header = HeaderValue::from_str(&names).ok().map(|value| (header::ALLOW, value));
        refused
    }

    /// 400 for a version of the API that is not served.
    pub(crate) fn version(version: &str) -> Self {
        let shown: String = version.chars().take(16).collect();
        Self::new(
            StatusCode::BAD_REQUEST,
            FAILED,
            format!("Version {shown} of the API is not served by this version of Stillpoint; versions 3 and 4 are"),
        )
    }

    /// 400: path and header of a request name different versions.
    pub(crate) fn mixed_versions(path: &str, header: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            FAILED,
            format!(
                "The path {path} speaks another version of the API than the header Version: {header} names; \
                 use one of them only"
            ),
        )
    }

    /// 406.
    pub(crate) fn not_acceptable() -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            FAILED,
            "Answers are application/xml or application/json",
        )
    }

    /// 415.
    pub(crate) fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            FAILED,
            "Bodies are application/xml or application/json",
        )
    }

    /// 413.
    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Request too large",
            format!("The body is longer than {limit_bytes} bytes"),
        )
    }

    /// 408: the body did not come.
    pub(crate) fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, FAILED, "The body did not arrive in time")
    }

    /// 400: the connection gave no whole body.
    pub(crate) fn body_broken() -> Self {
        Self::new(StatusCode::BAD_REQUEST, FAILED, "The body broke off")
    }

    /// 503: too many at once.
    pub(crate) fn busy(what: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, FAILED, what).with_header(header::RETRY_AFTER, "2")
    }

    /// 400 for a parameter of the URL.
    pub(crate) fn bad_parameter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, FAILED, format!("[{}]", detail.into()))
    }

    /// 400 for a value in the body.
    pub(crate) fn invalid_value(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Invalid value", detail)
    }

    /// 400 for missing mandatory elements.
    pub(crate) fn incomplete(kind: &str, missing: &[&str], method: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "Incomplete parameters",
            format!("{kind} [{}] required for {method}", missing.join(", ")),
        )
    }

    /// 409 for a change of what cannot change.
    pub(crate) fn immutable(field: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "Broken immutability constraint",
            format!("Attempt to set immutable field: {field}"),
        )
    }

    /// 400: what the API has and this version does not do.
    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, FAILED, format!("[{}]", detail.into()))
    }

    /// A body that is no document of the expected kind; `usage` leads to the method's description.
    pub(crate) fn body(error: &WireError, usage: &str) -> Self {
        match error.kind {
            WireErrorKind::Malformed | WireErrorKind::WrongRoot | WireErrorKind::TooDeep => {
                let mut refused = Self::new(
                    StatusCode::BAD_REQUEST,
                    SYNTAX,
                    format!("For correct usage, see: {usage} ({error})"),
                );
                refused.0.usage = Some(usage.to_owned());
                refused
            }
            WireErrorKind::InvalidValue | WireErrorKind::Duplicate => Self::invalid_value(error.to_string()),
            WireErrorKind::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Request too large", error.to_string()),
        }
    }

    /// A fault of the edge itself; the cause goes to the log.
    pub(crate) fn internal(cause: &str) -> Self {
        Fault::internal(cause).into()
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What exactly is wrong, for the client.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What only the log may have, for faults that somebody must look at.
    pub(crate) fn log(&self) -> Option<&str> {
        self.0.log.as_deref()
    }

    /// A header that belongs to the fault.
    pub(crate) fn header(&self) -> Option<&(HeaderName, HeaderValue)> {
        self.0.header.as_ref()
    }

    /// The fault as a representation, for an action or a creation that holds it.
    pub(crate) fn represent(&self) -> model::Fault {
        model::Fault::new(self.0.reason, self.0.detail.as_str())
    }

    /// The body, and its media type.
    pub(crate) fn render(&self, form: Form, shape: Shape) -> (String, &'static str) {
        let media_type = form.encoding.media_type();
        if let (Some(usage), Dialect::V3) = (&self.0.usage, form.dialect) {
            let message = model::UsageMessage {
                message: Some(format!("{SYNTAX} {}", self.0.detail)),
                detailed_link: Some(usage.clone()),
            };
            return (stillpoint_wire::write(&message, form), media_type);
        }
        match shape {
            Shape::Fault => (stillpoint_wire::write(&self.represent(), form), media_type),
            Shape::Action => {
                let action = model::Action {
                    fault: Some(self.represent()),
                    status: Some("failed".into()),
                    ..model::Action::default()
                };
                (stillpoint_wire::write(&action, form), media_type)
            }
            Shape::Sso => {
                let code = match self.0.status {
                    StatusCode::UNAUTHORIZED => "access_denied",
                    status if status.is_server_error() => "server_error",
                    _ => "invalid_request",
                };
                let body = serde_json::json!({ "error_code": code, "error": self.0.detail });
                (body.to_string(), "application/json")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillpoint_wire::Encoding;

    /// Every code, so that the golden table below is whole; `table` has no wildcard, this list is checked by counting.
    const ALL: &[FaultCode] = &[
        FaultCode::Unauthorized,
        FaultCode::Forbidden,
        FaultCode::NotFound,
        FaultCode::RelatedNotFound,
        FaultCode::Incomplete,
        FaultCode::InvalidValue,
        FaultCode::OutOfRange,
        FaultCode::TooLong,
        FaultCode::Duplicate,
        FaultCode::Malformed,
        FaultCode::Unsupported,
        FaultCode::TooLarge,
        FaultCode::NameInUse,
        FaultCode::IdInUse,
        FaultCode::Locked,
        FaultCode::DuringSnapshot,
        FaultCode::VmStatus,
        FaultCode::SnapshotNotRegular,
        FaultCode::InPreview,
        FaultCode::DiskNotAttached,
        FaultCode::DiskAttached,
        FaultCode::ImageIllegal,
        FaultCode::SnapshotBroken,
        FaultCode::ChainTooDeep,
        FaultCode::NoSpace,
        FaultCode::ImageRefused,
        FaultCode::TransferPhase,
        FaultCode::DuringBackup,
        FaultCode::BackupPhase,
        FaultCode::BackupIdInUse,
        FaultCode::DiskNotActive,
        FaultCode::DiskChoice,
        FaultCode::VolumeStatus,
        FaultCode::HasDependants,
        FaultCode::Protected,
        FaultCode::Quota,
        FaultCode::Changed,
        FaultCode::GuestAgent,
        FaultCode::HostUnreachable,
        FaultCode::Hypervisor,
        FaultCode::Storage,
        FaultCode::Unavailable,
        FaultCode::Internal,
    ];

    fn rendered() -> String {
        let mut text = String::from(
            "# Faults of the oVirt dialect\n\nOne block a code of the core: status, XML, JSON, and the form of a long action.\n",
        );
        for code in ALL {
            let refused = Refused::from(Fault::new(*code, "db1 <is> \"locked\" & busy").because("secret cause"));
            text.push_str(&format!("\n## {code:?}: {}\n\n", refused.status()));
            for (encoding, shape) in [
                (Encoding::Xml, Shape::Fault),
                (Encoding::Json, Shape::Fault),
                (Encoding::Xml, Shape::Action),
            ] {
                text.push_str(&format!("    {}\n", refused.render(encoding.into(), shape).0));
            }
        }
        text
    }

    #[test]
    fn every_fault_of_the_core_looks_as_written_down() {
        let now = rendered();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/faults.md");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        assert_eq!(
            now,
            std::fs::read_to_string(path).unwrap(),
            "review, then run with UPDATE_GOLDEN=1"
        );
        assert!(!now.contains("secret cause"), "a private cause leaked");
    }

    #[test]
    fn a_fault_of_our_own_keeps_its_cause_for_the_log() {
        let refused = Refused::from(Fault::internal("database is locked"));
        assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(refused.log().unwrap().contains("database is locked"));
        assert!(
            !refused
                .render(Encoding::Xml.into(), Shape::Fault)
                .0
                .contains("database")
        );
        assert!(Refused::from(Fault::new(FaultCode::Locked, "x")).log().is_none());
    }

    #[test]
    fn an_unauthorised_answer_says_how_to_authenticate() {
        for refused in [
            Refused::unauthorized("no"),
            Refused::from(Fault::new(FaultCode::Unauthorized, "no")),
        ] {
            assert_eq!(refused.header().unwrap().1, CHALLENGE);
        }
    }
}
