//! What a server has beside the API, as JSON: documents at absolute paths, and streams of server-sent events.
//!
//! The login is the connection's. A server that has no such path refuses with a status and without a reason
//! ([`Error::is_unserved`]): a program that can do without asks the API then.

use crate::{Connection, Error, Refusal, Request, connection::Incoming};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use secrecy::SecretString;
use serde_json::Value;
use std::time::Duration;

/// How long a stream may be silent: servers send a comment several times a minute.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The longest message of a stream.
const MESSAGE_MAX_BYTES: usize = 16 << 20;
/// The longest refusal.
const REFUSAL_MAX_BYTES: usize = 64 << 10;

impl Connection {
    /// Asks for a JSON document at an absolute path, such as `/stillpoint/v1/healing`; with a query, if need be.
    pub fn get_json(&self, path: &str) -> Request<Value> {
        self.json(Method::GET, path, None)
    }

    /// Posts a JSON document to an absolute path. An answer without a body is null.
    pub fn post_json(&self, path: &str, document: &Value) -> Request<Value> {
        self.json(Method::POST, path, Some(document.to_string()))
    }

    fn json(&self, method: Method, path: &str, body: Option<String>) -> Request<Value> {
        let (connection, path) = (self.clone(), path.to_owned());
        let call = async move {
            let request = named(&method, &path);
            let body = body.map(Bytes::from).unwrap_or_default();
            let limit = connection.limit();
            let sent = connection.send_json(&request, &method, &path, &body);
            let answer = tokio::time::timeout(limit, sent).await;
            let answer = answer.map_err(|_elapsed| Error::Timeout {
                request: request.clone(),
                limit,
            })??;
            if !answer.status.is_success() {
                return Err(refusal(&answer));
            }
            if answer.body.is_empty() {
                return Ok(Value::Null);
            }
            serde_json::from_slice(&answer.body).map_err(|error| Error::protocol(&request, error))
        };
        Request::new(call, false)
    }

    /// Listens to the server-sent events at an absolute path, those after `last_id` if it is given.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn listen(&self, path: &str, last_id: Option<&str>) -> Result<Listening, Error> {
        let request = named(&Method::GET, path);
        let limit = self.limit();
        let opened = tokio::time::timeout(limit, self.open_stream(&request, path, last_id)).await;
        let (status, headers, body) = opened.map_err(|_elapsed| Error::Timeout {
            request: request.clone(),
            limit,
        })??;
        if status != StatusCode::OK {
            let body = http_body_util::Limited::new(body, REFUSAL_MAX_BYTES).collect().await;
            let answer = Incoming {
                body: body.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
                request,
                status,
                headers,
            };
            return Err(refusal(&answer));
        }
        Ok(Listening {
            request,
            body,
            unread: Vec::new(),
        })
    }
}

/// Method and path, without the query.
fn named(method: &Method, path: &str) -> String {
    format!("{method} {}", path.split('?').next().unwrap_or_default())
}

/// A refusal in the form `{"error": {"code", "message", "remedy"}}`; whatever else it be, with its status alone.
fn refusal(answer: &Incoming) -> Error {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |key: &str| document["error"][key].as_str().map(str::to_owned);
    let detail = match (text("message"), text("remedy")) {
        (Some(message), Some(remedy)) => Some(format!("{message} {remedy}")),
        (message, remedy) => message.or(remedy),
    };
    Error::refused(Refusal {
        request: answer.request.clone(),
        status: answer.status.as_u16(),
        reason: text("code"),
        detail,
        correlation_id: None,
    })
}

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id, to go on after.
    pub id: Option<String>,
    /// What kind of message it is: `message` if it does not say.
    pub event: String,
    /// Its data.
    pub data: String,
}

/// A stream of server-sent events.
#[derive(Debug)]
pub struct Listening {
    request: String,
    body: hyper::body::Incoming,
    unread: Vec<u8>,
}

impl Listening {
    /// Waits for the next message; `None`: the server has ended the stream.
    ///
    /// # Errors
    /// When the connection breaks, or is silent for a minute.
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            while let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.unread.split_off(end + 2);
                let block = std::mem::replace(&mut self.unread, rest);
                if let Some(message) = message(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(message));
                }
            }
            if self.unread.len() > MESSAGE_MAX_BYTES {
                return Err(Error::protocol(&self.request, "a message of the stream has no end"));
            }
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await;
            match frame {
                Err(_elapsed) => {
                    return Err(Error::Timeout {
                        request: self.request.clone(),
                        limit: SILENCE_MAX,
                    });
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Error::transport(&self.request, error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// The message of a block of lines; `None`: it has no data.
fn message(block: &str) -> Option<Message> {
    let (mut id, mut event, mut data) = (None, None, Vec::new());
    for line in block.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => id = Some(value.to_owned()),
            "event" => event = Some(value.to_owned()),
            "data" => data.push(value),
            // Comments, and when to come back.
            _ => {}
        }
    }
    (!data.is_empty()).then(|| Message {
        id,
        event: event.unwrap_or_else(|| "message".to_owned()),
        data: data.join("\n"),
    })
}

impl Connection {
    async fn send_json(&self, request: &str, method: &Method, path: &str, body: &Bytes) -> Result<Incoming, Error> {
        let token = self.log_in(None).await?;
        let sent = self.json_request(method, path, body.clone(), &token)?;
        let answer = self
            .exchange(request, sent, crate::connection::ANSWER_MAX_BYTES)
            .await?;
        if answer.status != StatusCode::UNAUTHORIZED || self.has_own_token() {
            return Ok(answer);
        }
        let token = self.log_in(Some(&token)).await?;
        let sent = self.json_request(method, path, body.clone(), &token)?;
        self.exchange(request, sent, crate::connection::ANSWER_MAX_BYTES).await
    }

    async fn open_stream(
        &self,
        request: &str,
        path: &str,
        last_id: Option<&str>,
    ) -> Result<(StatusCode, HeaderMap, hyper::body::Incoming), Error> {
        let mut expired: Option<SecretString> = None;
        loop {
            let token = self.log_in(expired.as_ref()).await?;
            let mut sent = self.json_request(&Method::GET, path, Bytes::new(), &token)?;
            let headers = sent.headers_mut();
            headers.insert(
                http::header::ACCEPT,
                http::HeaderValue::from_static("text/event-stream"),
            );
            if let Some(id) = last_id {
                headers.insert("Last-Event-ID", crate::connection::header_value("Last-Event-ID", id)?);
            }
            let answer = self.http().request(sent).await;
            let (head, body) = answer.map_err(|error| Error::transport(request, error))?.into_parts();
            if head.status != StatusCode::UNAUTHORIZED || self.has_own_token() || expired.is_some() {
                return Ok((head.status, head.headers, body));
            }
            expired = Some(token);
        }
    }
}

impl Error {
    /// Whether the server does not have what was asked for at all, as one that is no Stillpoint: it refused without saying
    /// why in the form of what is beside the API.
    #[must_use]
    pub fn is_unserved(&self) -> bool {
        self.refusal()
            .is_some_and(|refusal| refusal.reason.is_none() && matches!(refusal.status, 300..=399 | 404 | 405 | 501))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_from_its_lines_and_comments_are_none() {
        assert_eq!(message(":\n\n"), None);
        assert_eq!(message("retry: 2000\n\n"), None);
        let read = message("id: 7\nevent: job\ndata: {\"a\":\ndata:1}\n\n").unwrap();
        assert_eq!((read.id.as_deref(), read.event.as_str()), (Some("7"), "job"));
        assert_eq!(read.data, "{\"a\":\n1}");
    }
}
