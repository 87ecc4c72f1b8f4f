//! A fault as the oVirt dialect tells it, read from an answer of any shape, for asserts.

use anyhow::{Context, Result, bail, ensure};

use crate::Answer;

/// Status, reason and detail of a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// oVirt's reason, which clients match on.
    pub reason: String,
    /// The sentence for people.
    pub detail: String,
}

impl Refusal {
    /// Checks status and reason, and that the detail names each of `words`.
    ///
    /// # Errors
    /// What differs, with the whole refusal.
    pub fn expect(&self, status: u16, reason: &str, words: &[&str]) -> Result<()> {
        ensure!(
            self.status == status && self.reason == reason,
            "expected {status} {reason:?}, got {self:?}"
        );
        match words.iter().find(|word| !self.detail.contains(**word)) {
            None => Ok(()),
            Some(missing) => bail!("the detail does not name {missing:?}: {self:?}"),
        }
    }
}

impl Answer {
    /// The fault of this answer: a bare one, one inside of an action, XML or JSON.
    ///
    /// # Errors
    /// When the status is no error, or the body is no fault.
    pub fn refusal(&self) -> Result<Refusal> {
        ensure!(self.status >= 400, "not refused: {} {}", self.status, self.text());
        let is_json = self
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json"));
        let (reason, detail) = if is_json {
            let json = self.json()?;
            let fault = json.get("fault").unwrap_or(&json);
            let text = |member: &str| Some(fault.get(member)?.as_str()?.to_owned());
            (text("reason"), text("detail"))
        } else {
            let xml = self.xml()?;
            let fault = match xml.name.as_str() {
                "fault" => &xml,
                _ => xml.find("fault").with_context(|| format!("no fault in {xml:?}"))?,
            };
            let text = |member: &str| fault.text_at(member).map(str::to_owned);
            (text("reason"), text("detail"))
        };
        Ok(Refusal {
            status: self.status,
            reason: reason.with_context(|| format!("no reason: {}", self.text()))?,
            detail: detail.with_context(|| format!("no detail: {}", self.text()))?,
        })
    }
}
