//! What becomes of a transfer whose client is idle: a pure function of policy, direction and time.

use crate::event::What;
use std::time::Duration;
use stillpoint_types::{TimeoutPolicy, TransferDirection, TransferPhase};

/// Where an idle transfer goes, and which event tells it. `None`: the client may be idle for longer.
pub(super) fn judge(
    policy: TimeoutPolicy,
    direction: TransferDirection,
    idle: Duration,
    limit_s: u32,
) -> Option<(TransferPhase, What)> {
    if limit_s == 0 || idle <= Duration::from_secs(limit_s.into()) {
        return None;
    }
    Some(match (policy, direction) {
        (TimeoutPolicy::Legacy, TransferDirection::Upload) => (TransferPhase::PausedSystem, What::UploadPausedIdle),
        (TimeoutPolicy::Legacy, TransferDirection::Download) => {
            (TransferPhase::CancelledSystem, What::DownloadCancelledIdle)
        }
        (TimeoutPolicy::Pause, _) => (TransferPhase::PausedSystem, What::TransferPausedByPolicy),
        (TimeoutPolicy::Cancel, _) => (TransferPhase::CancelledSystem, What::TransferCancelledByPolicy),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_transfer_goes_where_its_policy_says() {
        use TimeoutPolicy::{Cancel, Legacy, Pause};
        use TransferDirection::{Download, Upload};
        use TransferPhase::{CancelledSystem, PausedSystem};
        let table = [
            (Legacy, Upload, PausedSystem, 1071),
            (Legacy, Download, CancelledSystem, 1072),
            (Pause, Upload, PausedSystem, 1077),
            (Pause, Download, PausedSystem, 1077),
            (Cancel, Upload, CancelledSystem, 1076),
            (Cancel, Download, CancelledSystem, 1076),
        ];
        for (policy, direction, phase, code) in table {
            let (to, what) = judge(policy, direction, Duration::from_millis(60_001), 60).unwrap();
            assert_eq!((to, what.number()), (phase, code), "{policy} {direction}");
            assert_eq!(judge(policy, direction, Duration::from_secs(60), 60), None);
            assert_eq!(judge(policy, direction, Duration::MAX, 0), None, "0 is never");
        }
    }
}
