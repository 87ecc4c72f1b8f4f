//! Room `api-ovirt`.
