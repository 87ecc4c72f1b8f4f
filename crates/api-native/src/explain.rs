//! Why things are in their state, and what the last start healed.

use crate::{answer::Answer, call::Call, document, fault::Refused};
use stillpoint_engine::view::explain::Kind;
use stillpoint_types::FaultCode;

/// `GET /stillpoint/v1/explain/{kind}/{id}`.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let word = call.segment(0);
    let Some(kind) = Kind::ALL.iter().copied().find(|kind| kind.word() == word) else {
        let words = Kind::ALL.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(", ");
        let text = format!("Nothing of kind {word} can be explained; kinds are {words}");
        return Err(Refused::new(FaultCode::NotFound, text));
    };
    let explanation = call.engine().explain(call.who(), kind, call.segment(1)).await?;
    Ok(Answer::ok(&document::explanation(&explanation)))
}

/// `GET /stillpoint/v1/healing`.
pub(crate) async fn healing(call: Call) -> Result<Answer, Refused> {
    let healing = call.engine().healing(call.who()).await?;
    Ok(Answer::ok(&document::healing(&healing)))
}

/// `GET /stillpoint/v1/jobs/{id}`.
pub(crate) async fn job(call: Call) -> Result<Answer, Refused> {
    let detail = call.engine().job_detail(call.who(), call.id(0, "job")?).await?;
    Ok(Answer::ok(&document::job(&detail)))
}
