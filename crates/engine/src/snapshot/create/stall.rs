//! How long a guest's writes stood still at a switch, as it was measured there.

use crate::{
    fault::Fault,
    journal::from_json,
    ports::{Frozen, SwitchReport},
    view::watch::Stall,
};
use serde::Deserialize;
use stillpoint_store::job::StepRow;

/// What was measured around the transaction.
pub(super) fn measured(report: &SwitchReport) -> Stall {
    Stall {
        frozen_us: matches!(report.frozen, Frozen::Yes(_)).then_some(report.window_us),
        transaction_us: report.transaction_us,
    }
}

/// What a switch's step has recorded: of a snapshot, or of a backup, whose record holds the snapshot's.
pub(crate) fn stall(steps: &[StepRow]) -> Result<Option<Stall>, Fault> {
    #[derive(Deserialize)]
    struct Measured {
        #[serde(default)]
        stall: Option<Stall>,
        #[serde(default)]
        switched: Option<Box<Measured>>,
    }
    let output = steps.iter().find(|step| step.name == "switch");
    let Some(output) = output.and_then(|step| step.output.as_deref()) else {
        return Ok(None);
    };
    let measured: Measured = from_json(output)?;
    Ok(measured
        .stall
        .or_else(|| measured.switched.and_then(|inner| inner.stall)))
}
