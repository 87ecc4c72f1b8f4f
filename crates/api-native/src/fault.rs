//! What went wrong, in the family's one shape: `{"error": {"code", "message", "object", "blocker", "remedy"}}`.
//!
//! Codes of the core become a status, a word and a remedy in one table without a wildcard. The message is for people and says
//! all of it; the other members are for programs: what it is about, what stands in the way, and what to do. A member that
//! nothing is known for is null.

use crate::answer::Answer;
use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Value, json};
use stillpoint_engine::Fault;
use stillpoint_types::FaultCode;

/// A request that was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    status: StatusCode,
    word: &'static str,
    fault: Fault,
    remedy: Option<String>,
    headers: Vec<(HeaderName, String)>,
}

/// Status, word and remedy of each code of the core. A remedy that depends on the thing is in the fault's own text.
#[expect(clippy::too_many_lines, reason = "a table")]
fn table(code: FaultCode) -> (StatusCode, &'static str, Option<&'static str>) {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    const CONFLICT: StatusCode = StatusCode::CONFLICT;
    const DEPENDS: Option<&str> = None;
    let again = Some("Correct the request and send it again.");
    match code {
        FaultCode::Unauthorized => (
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            Some(
                "Get a token at /ovirt-engine/sso/oauth/token and send it as Authorization: Bearer, or send Basic credentials.",
            ),
        ),
        FaultCode::Forbidden => (
            StatusCode::FORBIDDEN,
            "forbidden",
            Some("Ask an administrator for a role that allows it in the thing's project."),
        ),
        FaultCode::NotFound => (
            StatusCode::NOT_FOUND,
            "not_found",
            Some("Look for its id with the list command of its kind, such as stillpoint vm list."),
        ),
        FaultCode::RelatedNotFound => (BAD, "related_not_found", again),
        FaultCode::Incomplete => (BAD, "incomplete", again),
        FaultCode::InvalidValue => (BAD, "invalid_value", again),
        FaultCode::OutOfRange => (BAD, "out_of_range", again),
        FaultCode::TooLong => (BAD, "too_long", again),
        FaultCode::Duplicate => (BAD, "duplicate", again),
        FaultCode::Malformed => (BAD, "malformed", again),
        FaultCode::Unsupported => (BAD, "unsupported", DEPENDS),
        FaultCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", again),
        FaultCode::NameInUse => (CONFLICT, "name_in_use", Some("Choose another name.")),
        FaultCode::IdInUse => (CONFLICT, "id_in_use", Some("Choose another id, or none.")),
        FaultCode::BackupIdInUse => (CONFLICT, "backup_id_in_use", Some("Choose another id, or none.")),
        FaultCode::Locked => (
            CONFLICT,
            "locked",
            Some("Wait until the job has ended: stillpoint job watch ID."),
        ),
        FaultCode::DuringSnapshot => (
            CONFLICT,
            "during_snapshot",
            Some("Wait until the job has ended: stillpoint job watch ID."),
        ),
        FaultCode::VmStatus => (CONFLICT, "vm_status", DEPENDS),
        FaultCode::SnapshotNotRegular => (CONFLICT, "snapshot_not_regular", DEPENDS),
        FaultCode::InPreview => (
            CONFLICT,
            "in_preview",
            Some("End the preview first: stillpoint snapshot commit VM, or stillpoint snapshot undo VM."),
        ),
        FaultCode::DiskNotAttached => (BAD, "disk_not_attached", DEPENDS),
        FaultCode::DiskAttached => (CONFLICT, "disk_attached", DEPENDS),
        FaultCode::ImageIllegal => (
            CONFLICT,
            "image_illegal",
            Some("See what is wrong with it: stillpoint explain disk ID."),
        ),
        FaultCode::SnapshotBroken => (CONFLICT, "snapshot_broken", DEPENDS),
        FaultCode::ChainTooDeep => (
            CONFLICT,
            "chain_too_deep",
            Some("Remove snapshots that are not needed."),
        ),
        FaultCode::NoSpace => (
            CONFLICT,
            "no_space",
            Some("Make room in the storage domain, or remove snapshots that are not needed."),
        ),
        FaultCode::ImageRefused => (CONFLICT, "image_refused", DEPENDS),
        FaultCode::TransferPhase => (CONFLICT, "transfer_phase", DEPENDS),
        FaultCode::DuringBackup => (
            CONFLICT,
            "during_backup",
            Some("Finalize the backup first: stillpoint backup finalize VM ID."),
        ),
        FaultCode::BackupPhase => (CONFLICT, "backup_phase", DEPENDS),
        FaultCode::DiskNotActive => (CONFLICT, "disk_not_active", DEPENDS),
        FaultCode::VolumeStatus => (CONFLICT, "volume_status", DEPENDS),
        FaultCode::HasDependants => (CONFLICT, "has_dependants", DEPENDS),
        FaultCode::Protected => (CONFLICT, "protected", DEPENDS),
        FaultCode::Changed => (CONFLICT, "changed", Some("Read it again, and decide anew.")),
        FaultCode::Quota => (
            CONFLICT,
            "quota",
            Some("Remove what is not needed, or ask an administrator for a larger quota."),
        ),
        FaultCode::DiskChoice => (CONFLICT, "disk_choice", again),
        FaultCode::GuestAgent => (CONFLICT, "guest_agent", DEPENDS),
        FaultCode::HostUnreachable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "host_unreachable",
            Some("See what the VM's process does: stillpoint explain vm ID."),
        ),
        FaultCode::Hypervisor => (StatusCode::INTERNAL_SERVER_ERROR, "hypervisor", DEPENDS),
        FaultCode::Storage => (CONFLICT, "storage", DEPENDS),
        FaultCode::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            Some("Try again in a few seconds."),
        ),
        FaultCode::Internal => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            Some("Look for the request's id in the daemon's log."),
        ),
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let (status, word, remedy) = table(fault.code);
        let headers = match status {
            StatusCode::UNAUTHORIZED => vec![(header::WWW_AUTHENTICATE, "Basic realm=\"RESTAPI\"".to_owned())],
            StatusCode::SERVICE_UNAVAILABLE => vec![(header::RETRY_AFTER, "2".to_owned())],
            _ => Vec::new(),
        };
        Self(Box::new(Inner {
            status,
            word,
            fault,
            remedy: remedy.map(str::to_owned),
            headers,
        }))
    }
}

impl Refused {
    /// A fault of a code of the core.
    pub(crate) fn new(code: FaultCode, text: impl std::fmt::Display) -> Self {
        Fault::new(code, text).into()
    }

    /// 404 for a thing that is not there, or that the caller may not see.
    pub(crate) fn not_found(kind: &str, id: &str) -> Self {
        Fault::not_found(kind, id).into()
    }

    /// A fault of the edge itself; the cause goes to the log.
    pub(crate) fn internal(cause: &dyn std::error::Error) -> Self {
        let mut text = cause.to_string();
        let mut next = cause.source();
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        Fault::internal(text).into()
    }

    /// 404 for a path that leads nowhere.
    pub(crate) fn no_such_path(path: &str) -> Self {
        let mut refused = Self::new(FaultCode::NotFound, format!("There is nothing at {path}"));
        refused.0.remedy = Some(format!("GET {} lists what there is.", crate::ROOT));
        refused
    }

    /// 405.
    pub(crate) fn other_method(path: &str, methods: &[Method]) -> Self {
        let list = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let mut refused = Self::new(FaultCode::Unsupported, format!("{path} has these methods only: {list}"));
        refused.0.status = StatusCode::METHOD_NOT_ALLOWED;
        refused.0.word = "method_not_allowed";
        refused.0.remedy = Some(format!("GET {} lists what there is.", crate::ROOT));
        refused.0.headers.push((header::ALLOW, list));
        refused
    }

    /// 408: the body did not come.
    pub(crate) fn body_timeout() -> Self {
        let mut refused = Self::new(FaultCode::Malformed, "The body did not arrive in time");
        refused.0.status = StatusCode::REQUEST_TIMEOUT;
        refused
    }

    /// What only the log may have, for faults that somebody must look at.
    pub(crate) fn log(&self) -> Option<String> {
        self.0.status.is_server_error().then(|| self.0.fault.log_chain())
    }

    /// As JSON, for an answer or a line of a stream.
    pub(crate) fn document(&self) -> Value {
        let inner = &self.0;
        json!({"error": {
            "code": inner.word,
            "message": inner.fault.text,
            "object": inner.fault.object(),
            "blocker": inner.fault.blocker(),
            "remedy": inner.remedy,
        }})
    }

    /// The answer.
    pub(crate) fn render(&self) -> Answer {
        let mut answer = Answer::json(self.0.status, &self.document());
        for (name, value) in &self.0.headers {
            answer = answer.with_header(name.clone(), value);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_object_and_what_to_do_and_keeps_its_cause() {
        let refused = Refused::not_found("disk", "7");
        let document = refused.document();
        assert_eq!(document["error"]["code"], "not_found");
        assert_eq!(document["error"]["object"], json!({"kind": "disk", "id": "7"}));
        assert_eq!(document["error"]["blocker"], Value::Null);
        assert!(document["error"]["remedy"].as_str().unwrap().contains("stillpoint"));
        let ours = Refused::from(Fault::internal("database is locked"));
        assert!(ours.log().unwrap().contains("database is locked"));
        assert!(!ours.document().to_string().contains("database"));
    }
}
