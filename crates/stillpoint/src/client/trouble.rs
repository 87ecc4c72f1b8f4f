//! Why a command failed: what went wrong, its causes, what to do next, and the exit code.

use super::code;
use crate::Failure;
use std::{error::Error as StdError, fmt};
use stillpoint_sdk::Error;

/// A failure with its causes and a remedy.
#[derive(Debug)]
pub(crate) struct Trouble {
    text: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    hint: Option<String>,
    code: u8,
}

impl Trouble {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            source: None,
            hint: None,
            code: code::FAILED,
        }
    }

    pub(crate) fn of(text: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(text)
        }
    }

    pub(crate) fn interrupted() -> Self {
        Self {
            code: code::INTERRUPTED,
            ..Self::new("interrupted")
        }
    }

    /// What to do next; the first one that is said is the nearest to the cause and stays.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// What to do next, instead of what was said before.
    pub(crate) fn replace_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// How the program ends because of it, see [`code`].
    pub(crate) fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// Whether the server, or what it began, failed; not: who asks, what is named, the connection.
    pub(crate) fn is_refusal(&self) -> bool {
        self.code == code::FAILED
    }

    /// The same, as a part of something larger.
    pub(crate) fn context(self, text: impl Into<String>) -> Self {
        Self {
            hint: self.hint.clone(),
            code: self.code,
            text: text.into(),
            source: Some(Box::new(self)),
        }
    }

    /// All of it in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.text.clone();
        let mut next: Option<&(dyn StdError + 'static)> = self.source();
        while let Some(error) = next {
            let part = error.to_string();
            // Libraries repeat their cause in their own text.
            if !text.ends_with(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            next = error.source();
        }
        text
    }

    pub(crate) fn into_failure(self) -> Failure {
        let chain = self.chain();
        Failure::new(
            self.code,
            match self.hint {
                Some(hint) => format!("{chain}\n  {hint}"),
                None => chain,
            },
        )
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Trouble {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let hint = match &error {
            Error::Auth(refusal) if refusal.status == 403 => {
                Some("this user may not do that: ask for another role, or use --user")
            }
            Error::Auth(_) => Some("check --user, and --password-file or STILLPOINT_PASSWORD"),
            Error::Transport { source, .. } if format!("{source:?}").contains("UnknownIssuer") => Some(
                "the server's certificate is of a CA that is not known here: give it with --ca-file or STILLPOINT_CA",
            ),
            Error::Transport { .. } | Error::Timeout { .. } => {
                Some("check that the server runs, and --url or STILLPOINT_URL")
            }
            _ => None,
        };
        let code = match &error {
            Error::Auth(_) => code::NOT_ALLOWED,
            Error::NotFound(_) => code::NOT_FOUND,
            Error::Refused(refusal) if refusal.status == 409 => code::IN_THE_WAY,
            Error::Transport { .. } | Error::Timeout { .. } => code::UNREACHED,
            _ => code::FAILED,
        };
        let trouble = Self::of("the server did not do it", error).code(code);
        match hint {
            Some(hint) => trouble.hint(hint),
            None => trouble,
        }
    }
}
