//! What all services are made of: a place below the API, the requests that are made there, and the way from a path to a
//! service.
//!
//! A service is a path and nothing else: making one sends nothing, and says nothing about whether the object is there.
//! Ids are put into paths encoded, so that no id from outside leads to another place.

use crate::{
    Connection, Error, Refusal, Request,
    connection::{Incoming, Outgoing},
    options::Common,
};
use http::{Method, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use stillpoint_wire::{
    Encoding, Limits, Wire,
    model::{Action, Fault},
    read, read_list, write,
};

/// All that is not unreserved in a path (RFC 3986, 2.3) is encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a server's answer may be. Large, as a client asked for it; but not without end.
const LIMITS: Limits = Limits {
    body_bytes: 64 << 20,
    depth: 64,
    elements: 4_000_000,
    attributes: 64,
    text_bytes: 16 << 20,
};

/// A place of the API.
#[derive(Debug, Clone)]
pub(crate) struct Locator {
    connection: Connection,
    path: String,
    /// A segment that no place has, kept until somebody sends a request there.
    wrong: Option<String>,
}

impl Locator {
    pub(crate) fn root(connection: Connection) -> Self {
        Self {
            connection,
            path: String::new(),
            wrong: None,
        }
    }

    pub(crate) fn child(&self, segment: &str) -> Self {
        let mut child = self.clone();
        child.path.push('/');
        child.path.extend(utf8_percent_encode(segment, SEGMENT));
        // Such segments are taken away by whoever reads the URL: the request would go to another object.
        if matches!(segment, "" | "." | "..") {
            child.wrong.get_or_insert_with(|| segment.to_owned());
        }
        child
    }

    pub(crate) fn get<T: Wire + Send + 'static>(&self, options: Common) -> Request<T> {
        self.call(Method::GET, options, None, &[StatusCode::OK], |answer| {
            document(&answer)
        })
    }

    pub(crate) fn list<T: Wire + Send + 'static>(&self, options: Common) -> Request<Vec<T>> {
        self.call(Method::GET, options, None, &[StatusCode::OK], |answer| {
            let encoding = encoding(&answer)?;
            let list = read_list(&answer.body, encoding, &LIMITS);
            list.map(|list| list.value)
                .map_err(|error| Error::protocol(&answer.request, error))
        })
    }

    pub(crate) fn add<T: Wire + Send + 'static>(&self, object: &T, options: Common) -> Request<T> {
        let good = &[StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED];
        let body = write(object, Encoding::Xml);
        self.call(Method::POST, options, Some(body), good, |answer| document(&answer))
    }

    pub(crate) fn update<T: Wire + Send + 'static>(&self, object: &T, options: Common) -> Request<T> {
        let body = write(object, Encoding::Xml);
        let good = &[StatusCode::OK, StatusCode::ACCEPTED];
        self.call(Method::PUT, options, Some(body), good, |answer| document(&answer))
    }

    pub(crate) fn remove(&self, options: Common) -> Request<()> {
        let good = &[StatusCode::OK, StatusCode::ACCEPTED, StatusCode::NO_CONTENT];
        self.call(Method::DELETE, options, None, good, |_answer| Ok(()))
    }

    pub(crate) fn action(&self, name: &'static str, action: &Action, options: Common) -> Request<Action> {
        let good = &[StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED];
        let body = write(action, Encoding::Xml);
        self.child(name)
            .call(Method::POST, options, Some(body), good, |answer| {
                let action: Action = document(&answer)?;
                // An action that failed is told in the body of a good answer, too.
                match &action.fault {
                    Some(fault) => Err(Error::refused(refusal(&answer, Some(fault)))),
                    None => Ok(action),
                }
            })
    }

    fn call<T: Send + 'static>(
        &self,
        method: Method,
        options: Common,
        body: Option<String>,
        good: &'static [StatusCode],
        read: impl FnOnce(Incoming) -> Result<T, Error> + Send + 'static,
    ) -> Request<T> {
        let (connection, wrong) = (self.connection.clone(), self.wrong.clone());
        let is_sent_now = options.wait == Some(false);
        let outgoing = Outgoing {
            method,
            path: self.path.clone(),
            query: options.query,
            headers: options.headers,
            timeout: options.timeout,
            body,
        };
        let call = async move {
            if let Some(segment) = wrong {
                let text = format!("{segment:?} in {} is no id and no name of a collection", outgoing.path);
                return Err(Error::Usage(text));
            }
            let answer = connection.send(&outgoing).await?;
            if good.contains(&answer.status) {
                read(answer)
            } else {
                Err(refused(&answer))
            }
        };
        Request::new(call, is_sent_now)
    }
}

fn encoding(answer: &Incoming) -> Result<Encoding, Error> {
    let kind = answer.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|value| value.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/xml" | "text/xml" => Ok(Encoding::Xml),
        "application/json" => Ok(Encoding::Json),
        _ => Err(Error::protocol(
            &answer.request,
            format_args!("its content type is {kind:?} instead of application/xml"),
        )),
    }
}

fn document<T: Wire>(answer: &Incoming) -> Result<T, Error> {
    let document = read(&answer.body, encoding(answer)?, &LIMITS);
    document
        .map(|document| document.value)
        .map_err(|error| Error::protocol(&answer.request, error))
}

/// The error for a status that is not good. A body that is no fault (a proxy's page) does not hide the status.
fn refused(answer: &Incoming) -> Error {
    let fault = document::<Fault>(answer)
        .or_else(|error| document::<Action>(answer).and_then(|action| action.fault.ok_or(error)));
    Error::refused(refusal(answer, fault.ok().as_ref()))
}

fn refusal(answer: &Incoming, fault: Option<&Fault>) -> Refusal {
    Refusal {
        request: answer.request.clone(),
        status: answer.status.as_u16(),
        reason: fault.and_then(|fault| fault.reason.clone()),
        detail: fault.and_then(|fault| fault.detail.clone()),
        correlation_id: answer.correlation_id(),
    }
}

/// Makes the services' types and the ways between them. Each line of a service is one step: a name leads to one
/// service, `_` stands for an id.
macro_rules! services {
    (@segment _, $name:ident, $to:ident) => {
        #[doc = concat!("The service of one of them, by its id: [`", stringify!($to), "`]. Nothing is sent.")]
        #[must_use]
        pub fn $name(&self, id: &str) -> $to {
            $to(self.0.child(id))
        }
    };
    (@segment $segment:literal, $name:ident, $to:ident) => {
        #[doc = concat!("The service at `", $segment, "`: [`", stringify!($to), "`].")]
        #[must_use]
        pub fn $name(&self) -> $to {
            $to(self.0.child($segment))
        }
    };
    (@step _, $name:ident, $here:ident, $segment:ident) => {
        return Some($here.$name($segment).into())
    };
    (@step $literal:literal, $name:ident, $here:ident, $segment:ident) => {
        if $segment == $literal {
            return Some($here.$name().into());
        }
    };
    ($(
        $(#[$doc:meta])*
        $service:ident, $variant:ident { $( $segment:tt => $name:ident: $to:ident, )* }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone)]
            pub struct $service(pub(crate) $crate::service::Locator);

            impl $service {
                $( services!(@segment $segment, $name, $to); )*

                /// The service that a path below this one leads to, for example `123/disks`. No path (`None`) and an
                /// empty one mean this service. Nothing is sent.
                ///
                /// # Errors
                /// [`Error::Usage`](crate::Error::Usage): no service is there.
                pub fn service<'a>(&self, path: impl Into<Option<&'a str>>) -> Result<Service, crate::Error> {
                    Service::from(self.clone()).at(path.into().unwrap_or_default())
                }
            }

            impl From<$service> for Service {
                fn from(service: $service) -> Self {
                    Self::$variant(service)
                }
            }
        )*

        /// Any service, as a path leads to it.
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub enum Service {
            $(
                #[doc = concat!("See [`", stringify!($service), "`].")]
                $variant($service),
            )*
        }

        impl Service {
            /// One step down.
            fn step(&self, segment: &str) -> Option<Self> {
                match self {
                    $(
                        Self::$variant(here) => {
                            let _ = (here, segment);
                            $( services!(@step $segment, $name, here, segment); )*
                            #[allow(unreachable_code, reason = "a collection's step to an id returns always")]
                            None
                        }
                    )*
                }
            }
        }
    };
}
pub(crate) use services;
