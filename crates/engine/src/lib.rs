//! The core: what Stillpoint decides, in no dialect and with no driver.
//!
//! Here are the commands, their validation, the locks, the durable jobs and the views. It knows no HTTP, no XML, no
//! QMP and no SQL text: edges ask through [`Engine`], the world is reached through [`ports`], rows through `store`.

pub mod command;
pub mod config;
mod engine;
pub mod fault;
pub mod ports;
pub mod view;

pub use engine::Engine;
pub use fault::Fault;
