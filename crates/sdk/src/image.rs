//! The data plane: the bytes of a disk, through the URL of an image transfer (`transfer_url`).
//!
//! The protocol is ovirt-imageio's. The URL is the right to read or write: it is never logged here, and no error shows
//! it. A client may be used by many tasks at once; each request in flight has a connection of its own, so whoever
//! wants several connections awaits several requests ([`Features`] says how many the server likes).
//!
//! A server on this host that offers a unix socket gets the requests through that, without TLS; any other one, and one
//! whose socket does not work, over TCP.
//!
//! Nothing is tried again here: a reader knows how far it came, and the caller knows how long it is willing to wait.

use crate::{
    Connection, Error, Refusal,
    connection::correlation_id,
    extent::{self, Extent, ExtentContext},
    near::{self, Socket, Way},
    transport::{self, Body},
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, request};
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use std::{io, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long a server may be silent while a body comes or goes, and until it answers. Servers of this protocol send at
/// least a blank within a minute.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// How long a unix socket may take to answer for the first time; TCP has answered already.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// The longest answer that is no data.
const NOTE_MAX_BYTES: usize = 64 << 10;

/// What may be done with an image, as its server says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Features {
    /// `extents`, `zero`, `flush`, `checksum`.
    #[serde(default)]
    pub features: Vec<String>,
    /// Connections that may read at once.
    #[serde(default = "one")]
    pub max_readers: usize,
    /// Connections that may write at once.
    #[serde(default = "one")]
    pub max_writers: usize,
    /// How many ranges [`ImageClient::read_many`] may ask for at once; 0: the server does not know it.
    #[serde(default)]
    pub many_ranges: usize,
    /// The unix socket that clients on the server's host may use; an abstract one begins with a NUL. [`ImageClient`] does
    /// so by itself.
    #[serde(default)]
    pub unix_socket: Option<String>,
}

fn one() -> usize {
    1
}

impl Features {
    /// Whether it is among the features.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|one| one == feature)
    }
}

/// The bytes of one disk. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageClient {
    connection: Connection,
    url: Secret,
    way: Arc<Way>,
}

/// A URL that gives rights: `Debug` does not show it.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a ticket's URL)")
    }
}

impl Connection {
    /// A client for the bytes behind a transfer's `transfer_url` or `proxy_url`. It trusts whom the connection trusts,
    /// and does not send its token there.
    ///
    /// # Errors
    /// [`Error::Usage`]: it is no `http` or `https` URL.
    ///
    /// ```no_run
    /// use stillpoint_sdk::{Connection, ExtentContext};
    ///
    /// # async fn example(connection: Connection, transfer_url: &str) -> Result<(), stillpoint_sdk::Error> {
    /// let image = connection.image_client(transfer_url)?;
    /// let mut extents = image.extents(ExtentContext::Zero).await?;
    /// while let Some(extent) = extents.next().await? {
    ///     if !extent.is_zero {
    ///         let mut data = image.read(extent.start, extent.length).await?;
    ///         while let Some(bytes) = data.next().await? {
    ///             println!("{} bytes", bytes.len());
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn image_client(&self, url: &str) -> Result<ImageClient, Error> {
        let parsed: Result<Uri, _> = url.parse();
        let is_good = parsed.is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some() && uri.query().is_none()
        });
        if !is_good {
            return Err(Error::Usage("the transfer's URL is no http or https URL".into()));
        }
        Ok(ImageClient {
            connection: self.clone(),
            url: Secret(url.trim_end_matches('/').to_owned()),
            way: Arc::default(),
        })
    }
}

impl ImageClient {
    /// Asks what may be done with the image.
    ///
    /// # Errors
    /// A refusal, or the server is not reached.
    pub async fn features(&self) -> Result<Features, Error> {
        let sent = self.begin(Method::OPTIONS, "", transport::whole(Bytes::new()))?;
        let (request, answer) = self
            .exchange("OPTIONS", sent, &[StatusCode::OK, StatusCode::NO_CONTENT])
            .await?;
        let is_near = near::is_near(&answer);
        let body = note(&request, answer).await?;
        let features: Features = serde_json::from_slice(&body).map_err(|error| Error::protocol(&request, error))?;
        if is_near {
            match self.find_socket(features.unix_socket.as_deref()).await {
                Ok(Some(socket)) => {
                    tracing::debug!(name = ?socket.name(), "the image is reached over the server's unix socket");
                    self.way.take_socket(socket);
                }
                Ok(None) => self.way.take_tcp(),
                Err(error) => {
                    tracing::debug!(%error, "the server's unix socket cannot be used; going on over TCP");
                    self.way.take_tcp();
                }
            }
        }
        Ok(features)
    }

    /// The socket of that name, if it is the same server's: a tunnel makes a far server look near.
    async fn find_socket(&self, name: Option<&str>) -> Result<Option<Socket>, Error> {
        let Some(name) = name else { return Ok(None) };
        let request = "OPTIONS of the image at the unix socket";
        let found = Socket::find(name, self.connection.connector()).await;
        let socket = found.map_err(|error| Error::transport(request, error))?;
        let sent = self.begin(Method::OPTIONS, "", transport::whole(Bytes::new()))?;
        let late = |_elapsed| Error::Timeout {
            request: request.to_owned(),
            limit: PROBE_LIMIT,
        };
        let answer = timeout(PROBE_LIMIT, socket.request(sent)).await.map_err(late)?;
        let answer = answer.map_err(|error| Error::transport(request, error))?;
        let status = answer.status();
        let body = note(request, answer).await?;
        let told: Option<Features> = serde_json::from_slice(&body).ok();
        let is_same = told.is_some_and(|told| told.unix_socket.as_deref() == Some(name));
        if status == StatusCode::OK && is_same && !socket.is_broken() {
            return Ok(Some(socket));
        }
        Err(Error::protocol(
            request,
            format_args!("it is not the same server's: {status}"),
        ))
    }

    /// Begins to list the image's extents in order. With [`ExtentContext::Dirty`] a server answers only for an
    /// incremental backup's disk; else it refuses with 404, and all of the disk is to be read.
    ///
    /// # Errors
    /// A refusal, or the server is not reached.
    pub async fn extents(&self, context: ExtentContext) -> Result<ExtentReader, Error> {
        let path = match context {
            ExtentContext::Zero => "/extents?context=zero",
            ExtentContext::Dirty => "/extents?context=dirty",
        };
        let sent = self.begin(Method::GET, path, transport::whole(Bytes::new()))?;
        let (request, answer) = self.exchange("GET extents", sent, &[StatusCode::OK]).await?;
        Ok(ExtentReader {
            body: BodyReader::new(request, answer.into_body(), None),
            parser: extent::Parser::default(),
        })
    }

    /// Begins to read `length` bytes from `offset` on. The reader gives exactly as many, or an error.
    ///
    /// # Errors
    /// A refusal (416: not within the disk), or the server is not reached.
    pub async fn read(&self, offset: u64, length: u64) -> Result<BodyReader, Error> {
        let last = last_of(offset, length)?;
        let mut sent = self.begin(Method::GET, "", transport::whole(Bytes::new()))?;
        let range = HeaderValue::try_from(format!("bytes={offset}-{last}")).expect("digits are a header's value");
        sent.headers_mut().insert(header::RANGE, range);
        let (request, answer) = self.exchange("GET", sent, &[StatusCode::PARTIAL_CONTENT]).await?;
        // A server that answers with other bytes than those that were asked for would be written to the wrong place.
        let told = answer.headers().get(header::CONTENT_RANGE);
        let told = told.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !told.starts_with(&format!("bytes {offset}-{last}/")) {
            return Err(Error::protocol(
                &request,
                format_args!("bytes {offset}-{last} were asked for, and it says {told:?}"),
            ));
        }
        Ok(BodyReader::new(request, answer.into_body(), Some(length)))
    }

    /// Begins to read many ranges (offset and length, in the order of the disk), as one stream of their bytes with nothing
    /// between. Only of a Stillpoint server, and not of more ranges than [`Features::many_ranges`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_many(&self, ranges: &[(u64, u64)]) -> Result<BodyReader, Error> {
        let place = self.url.0.rsplit_once("/images/");
        let (base, ticket) =
            place.ok_or_else(|| Error::Usage("the transfer's URL is not one of a Stillpoint server".into()))?;
        let message = serde_json::json!({ "ranges": ranges }).to_string();
        let length = ranges.iter().map(|(_, length)| length).sum();
        let url = format!("{base}/stillpoint/v1/images/{ticket}/read");
        let mut sent = self.request(Method::POST, &url, transport::whole(message.into()))?;
        let kind = HeaderValue::from_static("application/json");
        sent.headers_mut().insert(header::CONTENT_TYPE, kind);
        let (request, answer) = self.exchange("POST read", sent, &[StatusCode::OK]).await?;
        Ok(BodyReader::new(request, answer.into_body(), Some(length)))
    }

    /// Writes bytes at `offset`. They are durable after [`Self::flush`].
    ///
    /// # Errors
    /// A refusal, or the server is not reached: then it is unknown what was written, and writing the same again is
    /// right.
    pub async fn write(&self, offset: u64, bytes: Bytes) -> Result<(), Error> {
        let length = bytes.len() as u64;
        self.put(offset, length, transport::whole(bytes)).await
    }

    /// Writes `length` bytes at `offset` as they come.
    ///
    /// # Errors
    /// As [`Self::write`]; also when the stream fails, or ends before or after `length` bytes.
    pub async fn write_stream(
        &self,
        offset: u64,
        length: u64,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), Error> {
        let body = StreamBody::new(bytes.map_ok(Frame::data)).boxed_unsync();
        self.put(offset, length, body).await
    }

    async fn put(&self, offset: u64, length: u64, body: Body) -> Result<(), Error> {
        let last = last_of(offset, length)?;
        let mut sent = self.begin(Method::PUT, "?flush=n", body)?;
        let headers = sent.headers_mut();
        let range = HeaderValue::try_from(format!("bytes {offset}-{last}/*")).expect("digits are a header's value");
        headers.insert(header::CONTENT_RANGE, range);
        headers.insert(header::CONTENT_LENGTH, length.into());
        let kind = HeaderValue::from_static("application/octet-stream");
        headers.insert(header::CONTENT_TYPE, kind);
        let (request, answer) = self.exchange("PUT", sent, &[StatusCode::OK]).await?;
        note(&request, answer).await.map(drop)
    }

    /// Makes `length` bytes at `offset` read as zeroes.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn zero(&self, offset: u64, length: u64) -> Result<(), Error> {
        let message = serde_json::json!({ "op": "zero", "offset": offset, "size": length, "flush": false });
        self.patch(&message).await
    }

    /// Makes durable all that was written and zeroed before, once it returns.
    ///
    /// # Errors
    /// A refusal, or the server is not reached.
    pub async fn flush(&self) -> Result<(), Error> {
        self.patch(&serde_json::json!({ "op": "flush" })).await
    }

    async fn patch(&self, message: &serde_json::Value) -> Result<(), Error> {
        let body = Bytes::from(message.to_string());
        let length = body.len();
        let mut sent = self.begin(Method::PATCH, "", transport::whole(body))?;
        let headers = sent.headers_mut();
        headers.insert(header::CONTENT_LENGTH, length.into());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (request, answer) = self.exchange("PATCH", sent, &[StatusCode::OK]).await?;
        note(&request, answer).await.map(drop)
    }

    fn begin(&self, method: Method, below: &str, body: Body) -> Result<Request<Body>, Error> {
        self.request(method, &format!("{}{below}", self.url.0), body)
    }

    fn request(&self, method: Method, url: &str, body: Body) -> Result<Request<Body>, Error> {
        request::Builder::new()
            .method(method)
            .uri(url)
            .header(header::USER_AGENT, self.connection.user_agent())
            .body(body)
            .map_err(|error| Error::Usage(format!("the transfer's URL cannot be used: {error}")))
    }

    /// Sends a request; its answer has one of the good statuses. Also gives what errors call it.
    async fn exchange(
        &self,
        name: &str,
        sent: Request<Body>,
        good: &[StatusCode],
    ) -> Result<(String, Response<Incoming>), Error> {
        let request = format!(
            "{name} of the image at {}",
            sent.uri().authority().map_or("", |host| host.as_str())
        );
        let late = || Error::Timeout {
            request: request.clone(),
            limit: SILENCE_MAX,
        };
        if self.way.is_to_ask()
            && let Err(error) = Box::pin(self.features()).await
        {
            tracing::debug!(%error, "whether the server has a unix socket is not known; going on over TCP");
        }
        let answering = async {
            match self.way.socket() {
                Some(socket) => socket.request(sent).await,
                None => {
                    let answer = self.connection.http().request(sent).await?;
                    self.way.saw(&answer);
                    Ok(answer)
                }
            }
        };
        let answer = timeout(SILENCE_MAX, answering)
            .await
            .map_err(|_elapsed| late())?
            .map_err(|error| Error::transport(&request, error))?;
        if good.contains(&answer.status()) {
            return Ok((request, answer));
        }
        let status = answer.status().as_u16();
        let correlation_id = correlation_id(answer.headers());
        let said = note(&request, answer).await.unwrap_or_default();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        Err(Error::refused(Refusal {
            request,
            status,
            reason: None,
            detail: Some(said).filter(|text| !text.is_empty()),
            correlation_id,
        }))
    }
}

fn last_of(offset: u64, length: u64) -> Result<u64, Error> {
    length
        .checked_sub(1)
        .and_then(|rest| offset.checked_add(rest))
        .ok_or_else(|| Error::Usage(format!("{length} bytes from {offset} on are no range")))
}

/// The whole of a short answer.
async fn note(request: &str, answer: Response<Incoming>) -> Result<Bytes, Error> {
    let body = Limited::new(answer.into_body(), NOTE_MAX_BYTES).collect();
    let body = timeout(SILENCE_MAX, body).await.map_err(|_elapsed| Error::Timeout {
        request: request.to_owned(),
        limit: SILENCE_MAX,
    })?;
    Ok(body.map_err(|error| Error::transport(request, error))?.to_bytes())
}

/// The bytes of an answer, as they come.
#[derive(Debug)]
pub struct BodyReader {
    request: String,
    body: Incoming,
    /// What has still to come, if that is known.
    left: Option<u64>,
}

impl BodyReader {
    fn new(request: String, body: Incoming, left: Option<u64>) -> Self {
        Self { request, body, left }
    }

    /// The next bytes; `None` at the end, which is there only after all of them.
    ///
    /// # Errors
    /// The connection broke, or the server was silent for too long, or sent too much or too little.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let late = |_elapsed| Error::Timeout {
                request: self.request.clone(),
                limit: SILENCE_MAX,
            };
            let frame = timeout(SILENCE_MAX, self.body.frame()).await.map_err(late)?;
            let Some(frame) = frame else {
                return match self.left {
                    Some(left) if left > 0 => Err(Error::transport(
                        &self.request,
                        format!("the answer ended {left} bytes too early"),
                    )),
                    _ => Ok(None),
                };
            };
            let frame = frame.map_err(|error| Error::transport(&self.request, error))?;
            let Ok(bytes) = frame.into_data() else { continue };
            if let Some(left) = &mut self.left {
                *left = left
                    .checked_sub(bytes.len() as u64)
                    .ok_or_else(|| Error::protocol(&self.request, "it has more bytes than were asked for"))?;
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }
}

/// The extents of an image, as they come: a disk may have millions.
#[derive(Debug)]
pub struct ExtentReader {
    body: BodyReader,
    parser: extent::Parser,
}

impl ExtentReader {
    /// The next extent; `None` after the last one. They follow each other without a gap.
    ///
    /// # Errors
    /// The connection broke, or the answer is no list of extents.
    pub async fn next(&mut self) -> Result<Option<Extent>, Error> {
        loop {
            let found = self.parser.next();
            if let Some(extent) = found.map_err(|text| Error::protocol(&self.body.request, text))? {
                return Ok(Some(extent));
            }
            match self.body.next().await? {
                Some(bytes) => self.parser.push(&bytes),
                None if self.parser.is_done() => return Ok(None),
                None => return Err(Error::protocol(&self.body.request, "the list of extents has no end")),
            }
        }
    }
}
