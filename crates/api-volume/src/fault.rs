//! What went wrong, as each family says it.
//!
//! Codes of the core become answers in one table without a wildcard. What only HTTP knows has its own constructors. No known client
//! reads the texts; all read the status, Cinder's the fault's name, EVS's the code.

use crate::{Family, answer::Answer, microversion::Microversion};
use http::StatusCode;
use serde_json::json;
use stillpoint_engine::Fault;
use stillpoint_types::FaultCode;

/// A request that was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    /// Cinder's and Keystone's.
    status: StatusCode,
    /// EVS's.
    evs: (StatusCode, &'static str),
    text: String,
    shape: Shape,
    /// What only the log may have.
    log: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As the family has it.
    Fault,
    /// No route: Cinder has a form of its own for it.
    NoRoute,
    /// A microversion that is not served, which the answer's header repeats.
    Version(u16, u16),
    /// Huawei's API gateway, which judges signatures, with its code.
    Gateway(&'static str),
    /// No body (412).
    Bare,
}

/// Cinder's and Keystone's status, EVS's status and code, of each code of the core.
fn table(code: FaultCode) -> (StatusCode, StatusCode, &'static str) {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    match code {
        FaultCode::Unauthorized => (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED, "EVS.5401"),
        FaultCode::Forbidden => (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN, "EVS.5403"),
        FaultCode::NotFound | FaultCode::RelatedNotFound => (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND, "EVS.5404"),
        FaultCode::Incomplete | FaultCode::Malformed => (BAD, BAD, "EVS.2108"),
        FaultCode::InvalidValue
        | FaultCode::OutOfRange
        | FaultCode::TooLong
        | FaultCode::Duplicate
        | FaultCode::Unsupported
        | FaultCode::VmStatus
        | FaultCode::SnapshotNotRegular
        | FaultCode::InPreview
        | FaultCode::DiskNotAttached
        | FaultCode::DiskAttached
        | FaultCode::ImageIllegal
        | FaultCode::SnapshotBroken
        | FaultCode::ImageRefused
        | FaultCode::TransferPhase
        | FaultCode::BackupPhase
        | FaultCode::DiskNotActive
        | FaultCode::DiskChoice
        | FaultCode::VolumeStatus
        | FaultCode::Changed
        | FaultCode::HasDependants => (BAD, BAD, "EVS.5400"),
        FaultCode::Protected => (BAD, StatusCode::FORBIDDEN, "EVS.5403"),
        FaultCode::Locked | FaultCode::DuringSnapshot => (BAD, BAD, "EVS.2068"),
        FaultCode::DuringBackup => (BAD, BAD, "EVS.2130"),
        FaultCode::NameInUse | FaultCode::IdInUse | FaultCode::BackupIdInUse | FaultCode::GuestAgent => {
            (StatusCode::CONFLICT, BAD, "EVS.5400")
        }
        FaultCode::TooLarge | FaultCode::ChainTooDeep | FaultCode::NoSpace | FaultCode::Quota => {
            (StatusCode::PAYLOAD_TOO_LARGE, StatusCode::PAYLOAD_TOO_LARGE, "EVS.5413")
        }
        FaultCode::HostUnreachable | FaultCode::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::SERVICE_UNAVAILABLE,
            "EVS.5503",
        ),
        FaultCode::Hypervisor | FaultCode::Storage | FaultCode::Internal => (
            StatusCode::INTERNAL_SERVER_ERROR,
            StatusCode::INTERNAL_SERVER_ERROR,
            "EVS.5500",
        ),
    }
}

pub(crate) fn told(code: FaultCode) -> (u16, u16, &'static str) {
    let (cinder, evs, code) = table(code);
    (cinder.as_u16(), evs.as_u16(), code)
}

/// EVS's code of a status that no better code is known for.
fn evs_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "EVS.5401",
        StatusCode::FORBIDDEN => "EVS.5403",
        StatusCode::NOT_FOUND => "EVS.5404",
        StatusCode::PAYLOAD_TOO_LARGE => "EVS.5413",
        StatusCode::SERVICE_UNAVAILABLE => "EVS.5503",
        status if status.is_server_error() => "EVS.5500",
        _ => "EVS.5400",
    }
}

/// Cinder's name of a fault.
fn cinder_name(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "itemNotFound",
        StatusCode::METHOD_NOT_ALLOWED => "badMethod",
        StatusCode::CONFLICT => "conflictingRequest",
        StatusCode::PAYLOAD_TOO_LARGE => "overLimit",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "badMediaType",
        StatusCode::NOT_IMPLEMENTED => "notImplemented",
        StatusCode::SERVICE_UNAVAILABLE => "serviceUnavailable",
        StatusCode::NOT_ACCEPTABLE => "computeFault",
        status if status.is_server_error() => "computeFault",
        _ => "badRequest",
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let (status, evs_status, evs_code) = table(fault.code);
        let log = status.is_server_error().then(|| fault.log_chain());
        let mut refused = Self::new(status, fault.text);
        refused.0.evs = (evs_status, evs_code);
        refused.0.log = log;
        refused
    }
}

impl Refused {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            evs: (status, evs_code(status)),
            text: text.into(),
            shape: Shape::Fault,
            log: None,
        }))
    }

    fn shaped(mut self, shape: Shape) -> Self {
        self.0.shape = shape;
        self
    }

    /// Says it with another code of EVS; its status there stays.
    pub(crate) fn evs(mut self, code: &'static str) -> Self {
        self.0.evs.1 = code;
        self
    }

    /// 400.
    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 401: asks for a token.
    pub(crate) fn unauthorized(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, text)
    }

    /// 403.
    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 403: the token is scoped to no project.
    pub(crate) fn no_project() -> Self {
        Self::forbidden("The token is scoped to no project").evs("EVS.0003")
    }

    /// 400: the project of the URL is not the token's.
    pub(crate) fn other_project() -> Self {
        Self::bad_request("Malformed request url: the project in it is not the one of the token").evs("EVS.0001")
    }

    /// 404 for a thing that is not there, or that the caller may not see.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 404 for a path or method that leads nowhere.
    pub(crate) fn no_such_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "The resource could not be found.").shaped(Shape::NoRoute)
    }

    /// 406 for a version that is not served.
    pub(crate) fn version_not_served(major: u16, minor: u16, newest: Microversion) -> Self {
        let text = format!(
            "Version {major}.{minor} is not supported by the API. Minimum is 3.0 and maximum is 3.{}.",
            newest.0
        );
        Self::new(StatusCode::NOT_ACCEPTABLE, text).shaped(Shape::Version(major, minor))
    }

    /// 408: the body did not come.
    pub(crate) fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time")
    }

    /// 409.
    pub(crate) fn conflict(text: impl Into<String>) -> Self {
        let mut refused = Self::new(StatusCode::CONFLICT, text);
        refused.0.evs.0 = StatusCode::BAD_REQUEST;
        refused
    }

    /// 412 without body: the condition of the request does not hold.
    pub(crate) fn precondition_failed() -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "").shaped(Shape::Bare)
    }

    /// 413: a body that is too long, or a quota.
    pub(crate) fn over_limit(text: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// 415.
    pub(crate) fn unsupported_media_type() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Bodies are application/json")
    }

    /// 503.
    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// A fault of the edge itself; the cause goes to the log.
    pub(crate) fn internal(cause: &str) -> Self {
        Fault::internal(cause).into()
    }

    /// A signed request that is refused, in the gateway's form whatever the family.
    pub(crate) fn gateway(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self::new(status, text).shaped(Shape::Gateway(code))
    }

    /// The status in a family.
    pub(crate) fn status(&self, family: Family) -> StatusCode {
        match (family, self.0.shape) {
            (Family::Evs, Shape::Fault) => self.0.evs.0,
            _ => self.0.status,
        }
    }

    /// What only the log may have, for faults that somebody must look at.
    pub(crate) fn log(&self) -> Option<&str> {
        self.0.log.as_deref()
    }

    /// The version that the answer's header repeats, if it is that of the refusal.
    pub(crate) fn version(&self) -> Option<String> {
        match self.0.shape {
            Shape::Version(major, minor) => Some(format!("volume {major}.{minor}")),
            _ => None,
        }
    }

    /// The answer in a family. `public_url`: where the identity service is.
    pub(crate) fn render(&self, family: Family, public_url: &str, request_id: &str) -> Answer {
        let inner = &self.0;
        let (status, text) = (self.status(family), inner.text.as_str());
        let title = status.canonical_reason().unwrap_or("Error");
        let keystone = || json!({"error": {"code": status.as_u16(), "title": title, "message": text}});
        let body = match (inner.shape, family) {
            (Shape::Bare, _) => return Answer::empty(status),
            (Shape::Gateway(code), _) => json!({"error_code": code, "error_msg": text, "request_id": request_id}),
            (Shape::NoRoute, Family::Cinder) => {
                json!({"message": text, "code": format!("{} {title}", status.as_u16()), "title": title})
            }
            (_, Family::Evs) => json!({"error": {"code": inner.evs.1, "message": text}}),
            (_, Family::Identity) => keystone(),
            (_, Family::Cinder) if status == StatusCode::UNAUTHORIZED => keystone(),
            (_, Family::Cinder) if status == StatusCode::PAYLOAD_TOO_LARGE => {
                json!({"overLimit": {"code": status.as_u16(), "message": text, "retryAfter": "0"}})
            }
            (_, Family::Cinder) => json!({cinder_name(status): {"code": status.as_u16(), "message": text}}),
        };
        let answer = Answer::json(status, &body);
        match status {
            StatusCode::UNAUTHORIZED => answer.with_header(
                "www-authenticate",
                &format!("Keystone uri=\"{public_url}/identity/v3\""),
            ),
            // Cinder's clients try again by themselves from 1 on, and a quota does not go away by that.
            StatusCode::PAYLOAD_TOO_LARGE => answer.with_header("retry-after", "0"),
            StatusCode::SERVICE_UNAVAILABLE => answer.with_header("retry-after", "2"),
            _ => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Status and document. The order of its members is nobody's business.
    fn shown(refused: &Refused, family: Family) -> (u16, Value) {
        let answer = refused.render(family, "http://h", "req-1");
        (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
    }

    #[test]
    fn each_family_says_it_in_its_own_shape() {
        let locked = Refused::from(Fault::new(FaultCode::Locked, "busy").because("secret cause"));
        assert_eq!(
            shown(&locked, Family::Cinder),
            (400, json!({"badRequest": {"code": 400, "message": "busy"}}))
        );
        assert_eq!(
            shown(&locked, Family::Evs),
            (400, json!({"error": {"code": "EVS.2068", "message": "busy"}}))
        );
        let name = Refused::from(Fault::new(FaultCode::NameInUse, "taken"));
        assert_eq!(
            shown(&name, Family::Identity),
            (
                409,
                json!({"error": {"code": 409, "message": "taken", "title": "Conflict"}})
            )
        );
        assert_eq!(shown(&name, Family::Evs).0, 400, "EVS has no 409");
        assert_eq!(
            shown(&Refused::no_such_route(), Family::Cinder).1,
            json!({"code": "404 Not Found", "message": "The resource could not be found.", "title": "Not Found"})
        );
        assert_eq!(
            shown(
                &Refused::gateway(StatusCode::UNAUTHORIZED, "APIGW.0301", "no"),
                Family::Evs
            )
            .1,
            json!({"error_code": "APIGW.0301", "error_msg": "no", "request_id": "req-1"})
        );
        let (_, over) = shown(&Refused::over_limit("x"), Family::Cinder);
        assert_eq!(over["overLimit"]["retryAfter"], "0");
    }

    #[test]
    fn an_unauthorised_answer_says_where_to_log_in() {
        for family in [Family::Identity, Family::Cinder, Family::Evs] {
            let answer = Refused::unauthorized("no").render(family, "http://h", "r");
            let value = &answer
                .headers
                .iter()
                .find(|(name, _)| name == "www-authenticate")
                .unwrap()
                .1;
            assert_eq!(value, "Keystone uri=\"http://h/identity/v3\"");
        }
    }

    #[test]
    fn a_fault_of_our_own_keeps_its_cause_for_the_log() {
        let refused = Refused::from(Fault::internal("database is locked"));
        assert!(refused.log().unwrap().contains("database is locked"));
        for family in [Family::Identity, Family::Cinder, Family::Evs] {
            assert!(!shown(&refused, family).1.to_string().contains("database"));
        }
    }
}
