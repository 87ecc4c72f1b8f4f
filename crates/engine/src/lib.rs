//! The core: what Stillpoint decides, in no dialect and with no driver.
pub mod ports;
