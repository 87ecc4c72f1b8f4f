//! What a call may be given beside its object. Each call has its own type, so that it cannot be given what it ignores.
//!
//! All of them know `header`, `query`, `timeout` and `wait`, which mean the same everywhere.

use std::time::Duration;

/// What every call can be given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Common {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) timeout: Option<Duration>,
    /// `None`: wait.
    pub(crate) wait: Option<bool>,
}

impl Common {
    /// A parameter is said once: what is said last counts.
    fn set_query(&mut self, name: &str, value: String) {
        self.query.retain(|(other, _)| other != name);
        self.query.push((name.to_owned(), value));
    }
}

macro_rules! options {
    ($(
        $(#[$doc:meta])*
        $name:ident { $( $(#[$field_doc:meta])* $field:ident: $ty:ty, )* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default)]
        pub struct $name(pub(crate) Common);

        impl $name {
            /// No option.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            $(
                $(#[$field_doc])*
                #[must_use]
                pub fn $field(mut self, value: $ty) -> Self {
                    self.0.set_query(stringify!($field), value.to_string());
                    self
                }
            )*

            /// Adds an HTTP header. A name or value that HTTP does not allow makes the call fail with
            /// [`Error::Usage`](crate::Error::Usage).
            #[must_use]
            pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
                self.0.headers.push((name.into(), value.into()));
                self
            }

            /// Adds a parameter to the URL's query; one of the same name is replaced.
            #[must_use]
            pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
                self.0.set_query(name, value.into());
                self
            }

            /// Limits the time until the answer is there. Default: the connection's.
            #[must_use]
            pub fn timeout(mut self, limit: Duration) -> Self {
                self.0.timeout = Some(limit);
                self
            }

            /// `false`: the request is sent at once, by a task of its own, and goes on even if the returned
            /// [`Request`](crate::Request) is dropped; awaiting that gives the answer. `true` (the default): the request
            /// is sent when it is awaited. Must be called inside of a Tokio runtime when `false`.
            #[must_use]
            pub fn wait(mut self, wait: bool) -> Self {
                self.0.wait = Some(wait);
                self
            }
        }
    )*};
}

options! {
    /// Options of a call that has no parameters of its own.
    CallOptions {}

    /// Options of reading one object.
    GetOptions {
        /// Inner links that the answer holds inline, for example `disk_attachments.disk`.
        follow: &str,
        /// Whether the answer holds what is left out else, for example the OVF document of a VM.
        all_content: bool,
    }

    /// Options of reading a collection.
    ListOptions {
        /// Inner links that the answer holds inline.
        follow: &str,
        /// The most items that the answer may have. Default: all.
        max: u32,
        /// A query of the search language; collections that have none ignore it.
        search: &str,
        /// Whether the search tells large letters from small ones. Default: as the server likes.
        case_sensitive: bool,
        /// Of events: those with a larger index than this one only. Other collections ignore it.
        from: u64,
        /// Whether the answer holds what is left out else.
        all_content: bool,
    }

    /// Options of [`VmBackupsService::add`](crate::VmBackupsService::add).
    AddBackupOptions {
        /// Whether the backup fails if the guest's file systems cannot be frozen. Default of the server: false.
        require_consistency: bool,
        /// Whether the backup works on the active volume, instead of a snapshot made for it. Default of the server:
        /// false.
        use_active: bool,
    }

    /// Options of removing an object.
    RemoveOptions {
        /// On a disk attachment: whether the disk survives. Default of the server: true.
        detach_only: bool,
    }
}
