//! A request on its way through a handler: what the client gave, and the doors to the core.
//!
//! Handlers only take things out of it, call the core once and answer; what they share is here, so that each can be
//! read in one breath.

use crate::{
    Api,
    answer::{Answer, action},
    fault::Refused,
    follow::{Follow, Known},
    negotiate,
    param::Params,
    route::Route,
    search::{Field, Search},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use std::{str::FromStr, time::Duration};
use stillpoint_auth::Auth;
use stillpoint_engine::{
    Engine,
    command::{Accepted, Origin},
    view::{House, JobView, RunStatus},
};
use stillpoint_types::{Caller, JobId};
use stillpoint_wire::{
    Dialect, Encoding, Fields as _, Form, Limits, Wire,
    model::{self, Identified},
};

/// Longest body of the API, in bytes.
pub(crate) const BODY_MAX: usize = 1 << 20;
/// How long `Expect: 201-created` waits for the job before the answer is 202 after all.
const CREATE_WAIT: Duration = Duration::from_secs(600);

/// What any request has.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) api: Api,
    pub(crate) route: &'static Route,
    /// What hrefs start with.
    pub(crate) base: &'static str,
    /// The path's segments that the client gave, in order.
    pub(crate) given: Vec<String>,
    pub(crate) params: Params,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Dialect of the request, and of the answer.
    pub(crate) dialect: Dialect,
    /// Encoding of the answer.
    pub(crate) encoding: Encoding,
    pub(crate) origin: Origin,
}

/// A request whose sender is known.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) visit: Visit,
    pub(crate) who: Caller,
}

impl Visit {
    /// The path below the API's root, written as the route has it: no doubled slash, no parameter.
    pub(crate) fn place(&self) -> String {
        let mut given = self.given.iter();
        let segments = self.route.pattern.split('/').map(|segment| {
            if segment.starts_with('{') {
                given.next().map_or("", String::as_str)
            } else {
                segment
            }
        });
        segments.collect::<Vec<_>>().join("/")
    }
}

impl Call {
    /// The core.
    pub(crate) fn engine(&self) -> &Engine {
        &self.visit.api.0.engine
    }

    /// Users and tokens.
    pub(crate) fn auth(&self) -> &Auth {
        &self.visit.api.0.auth
    }

    /// The surroundings.
    pub(crate) async fn house(&self) -> Result<House, Refused> {
        Ok(self.engine().house(&self.who).await?)
    }

    /// Where the request came from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.visit.origin
    }

    /// What hrefs start with.
    pub(crate) fn base(&self) -> &'static str {
        self.visit.base
    }

    /// Encoding of the answer.
    pub(crate) fn encoding(&self) -> Encoding {
        self.visit.encoding
    }

    /// Dialect of the request, and of the answer.
    pub(crate) fn dialect(&self) -> Dialect {
        self.visit.dialect
    }

    /// Dialect and encoding of the answer.
    pub(crate) fn form(&self) -> Form {
        Form {
            dialect: self.dialect(),
            encoding: self.encoding(),
        }
    }

    /// The parameters.
    pub(crate) fn params(&self) -> &Params {
        &self.visit.params
    }

    /// A segment of the path as it is.
    pub(crate) fn segment(&self, index: usize) -> &str {
        self.visit.given.get(index).map_or("", String::as_str)
    }

    /// An id of the path. What is no id is the id of nothing: 404.
    pub(crate) fn id<T: FromStr>(&self, index: usize) -> Result<T, Refused> {
        let text = self.segment(index);
        text.parse().map_err(|_not_an_id: T::Err| Refused::not_found(text))
    }

    /// Whether the full representation is wanted.
    pub(crate) fn all_content(&self) -> bool {
        self.params().flag("all_content").unwrap_or(false)
    }

    /// The search of a list.
    pub(crate) fn search(&self, fields: &'static [Field]) -> Result<Search, Refused> {
        let case_sensitive = self.params().flag("case_sensitive").unwrap_or(false);
        Search::parse(self.params().text("search"), case_sensitive, fields)
    }

    /// What shall be inlined.
    pub(crate) fn follow(&self, known: &'static [Known]) -> Result<Follow, Refused> {
        Follow::parse(self.params().text("follow"), known)
    }

    /// Reads the body. An empty body is an empty representation where the route is an action.
    pub(crate) fn read<T: Wire>(&self) -> Result<T, Refused> {
        if self.visit.body.trim_ascii().is_empty() && T::TAG == model::Action::TAG {
            return Ok(T::default());
        }
        let form = Form {
            dialect: self.dialect(),
            encoding: negotiate::body_encoding(&self.visit.headers)?,
        };
        let limits = Limits {
            body_bytes: BODY_MAX,
            text_bytes: BODY_MAX,
            ..Limits::default()
        };
        let read = stillpoint_wire::read(&self.visit.body, form, &limits)
            .map_err(|error| Refused::body(&error, &self.usage()))?;
        if read.unknown > 0 {
            tracing::debug!(count = read.unknown, "skipped unknown members of a body");
        }
        Ok(read.value)
    }

    /// Where the route's method is described, as oVirt Engine says it.
    fn usage(&self) -> String {
        let (service, method) = self.visit.route.name.split_once('/').unwrap_or(("system", "get"));
        format!(
            "{}/ovirt-engine/apidoc#services/{service}/methods/{method}",
            self.visit.api.0.settings.public_url.trim_end_matches('/')
        )
    }

    /// 200 with a representation.
    pub(crate) fn ok<T: Wire>(&self, value: &T) -> Answer {
        Answer::document(StatusCode::OK, value, self.form())
    }

    /// 200 with a short list whose items are at hand, cut at `max`.
    pub(crate) fn items<T: Wire>(&self, items: &[T]) -> Answer {
        let most = self.params().max().unwrap_or(items.len()).min(items.len());
        let body = stillpoint_wire::write_list(&items[..most], self.form());
        Answer::text(StatusCode::OK, self.encoding().media_type(), body)
    }

    /// The reference to a job.
    pub(crate) fn job_reference(&self, job: JobId) -> Option<Box<model::Job>> {
        model::Job::reference(job.to_string(), format!("{}/jobs/{job}", self.base()))
    }

    /// Whether the client asked to wait until what he adds is complete.
    fn expects_created(&self) -> bool {
        [header::EXPECT.as_str(), "x-ovirt-expect"]
            .iter()
            .flat_map(|name| self.visit.headers.get_all(*name))
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split([',', ';']))
            .any(|word| word.trim().eq_ignore_ascii_case("201-created"))
    }

    /// Waits for a job; `false`: it goes on, and the client's patience (or ours) is over.
    pub(crate) async fn await_job(&self, job: JobId, limit: Duration) -> Result<bool, Refused> {
        match self.engine().wait(job, limit).await {
            Ok(()) => Ok(true),
            // A failed wait is either the job's failure or the end of the wait: the job knows.
            Err(fault) => match self.engine().job(&self.who, job).await {
                Ok(JobView {
                    status: RunStatus::Started,
                    ..
                }) => Ok(false),
                Ok(_) | Err(_) => Err(fault.into()),
            },
        }
    }

    /// Before an addition is answered: waits if the client asked for it, and says which job still goes on.
    pub(crate) async fn settle<I: Copy>(&self, accepted: &Accepted<I>) -> Result<Option<JobId>, Refused> {
        match accepted.job {
            Some(job) if self.expects_created() && self.await_job(job, CREATE_WAIT).await? => Ok(None),
            other => Ok(other),
        }
    }

    /// The answer to an addition: 201 with its place, or 202 with the state of the job that still goes on.
    pub(crate) fn added<T: Wire + Identified>(&self, mut value: T, job: Option<JobId>) -> Answer {
        let href = value.head().href.clone().unwrap_or_default();
        let Some(job) = job else {
            return Answer::document(StatusCode::CREATED, &value, self.form()).with_location(&href);
        };
        let head = value.head_mut();
        head.creation_status = Some("in_progress".into());
        head.link.push(model::Link::new(
            "creation_status",
            format!("{href}/creation_status/{job}"),
        ));
        Answer::document(StatusCode::ACCEPTED, &value, self.form())
    }

    /// The answer to a removal: 200 always, with the job that may still go on.
    pub(crate) fn removed(&self, job: Option<JobId>) -> Answer {
        let job = job.and_then(|job| self.job_reference(job));
        self.ok(&action("complete", job))
    }

    /// The answer to an action, once its job has ended or `limit` is over: 200 complete, or 202 in progress.
    pub(crate) async fn acted(&self, job: Option<JobId>, limit: Duration) -> Result<Answer, Refused> {
        self.acted_on(job, limit, |_nothing| {}).await
    }

    /// The same with what came of it.
    pub(crate) async fn acted_on(
        &self,
        job: Option<JobId>,
        limit: Duration,
        amend: impl FnOnce(&mut model::Action) + Send,
    ) -> Result<Answer, Refused> {
        let ended = match job {
            Some(job) => self.await_job(job, limit).await?,
            None => true,
        };
        let job = job.and_then(|job| self.job_reference(job));
        let (status, shown) = if ended {
            (StatusCode::OK, "complete")
        } else {
            (StatusCode::ACCEPTED, "in_progress")
        };
        let mut answer = action(shown, job);
        amend(&mut answer);
        Ok(Answer::document(status, &answer, self.form()))
    }
}

/// An id that a body names.
///
/// # Errors
/// 400 when the text is no id.
pub(crate) fn body_id<T: FromStr>(text: &str, what: &str) -> Result<T, Refused> {
    text.trim().parse().map_err(|_not_an_id: T::Err| {
        let shown: String = text.chars().take(64).collect();
        Refused::invalid_value(format!("{shown:?} is not a valid id ({what})"))
    })
}
