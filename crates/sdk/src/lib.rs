//! A client of the oVirt REST API v4 in Rust: service locators as in the other SDKs of the API, and the data plane of
//! image transfers.
//!
//! It works against any server of the API. It knows nothing of Stillpoint's own rooms but how the API's documents look
//! ([`types`]). Everything is asynchronous (Tokio), and every wait has a limit.
//!
//! * [`Connection`]: where the server is and who asks; [`Connection::system_service`] is the way to all services.
//! * A service is a path: making one sends nothing. Its methods return a [`Request`], which is sent when it is awaited,
//!   or at once with the option `wait(false)`.
//! * [`Error`] tells a refusal, with the fault's reason and detail, from a connection that broke.
//! * [`Connection::get_json`], [`Connection::listen`]: what a server has beside the API.
//! * [`ImageClient`]: extents, reads, writes, zeroes of a disk behind a transfer.
//! * [`volume`]: OpenStack's volumes (Cinder v3), and its users, projects and keys (Keystone v3).
//!
//! Names are those of the other SDKs, so their documentation holds here: in Ruby
//! `vms_service.vm_service('123').backups_service.add(backup, require_consistency: true, wait: false)`, here
//! `vms_service().vm_service("123").backups_service().add(&backup, AddBackupOptions::new().require_consistency(true).wait(false))`.
//!
//! Three programs that can be run as they are, and are run by the tests, are in `examples/`: `incremental_backup` (a VM's
//! disks into files), `snapshot_and_wait`, and `changed_extents` (what has changed since a checkpoint, and nothing else).
//!
//! ```no_run
//! use stillpoint_sdk::{AddBackupOptions, CallOptions, Connection, GetOptions, by_id, types::{Backup, Disk}};
//!
//! # async fn example() -> Result<(), stillpoint_sdk::Error> {
//! let connection = Connection::builder("http://127.0.0.1:8080").user("admin@internal", "secret").build()?;
//! let vm = connection.system_service().vms_service().vm_service("123");
//! let full = Backup { disks: Some(vec![by_id::<Disk>("456")]), ..Backup::default() };
//! let backup = vm.backups_service().add(&full, AddBackupOptions::new()).await?;
//! let service = vm.backups_service().backup_service(backup.head.id.as_deref().unwrap_or_default());
//! println!("{:?}", service.get(GetOptions::new()).await?.phase);
//! service.finalize(CallOptions::new()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What an error says, and what to do with it:
//!
//! ```no_run
//! use stillpoint_sdk::{Error, GetOptions, VmService};
//!
//! # async fn example(vm: VmService) -> Result<(), Error> {
//! match vm.get(GetOptions::new()).await {
//!     Ok(vm) => println!("{:?}", vm.status),
//!     Err(Error::NotFound(_)) => println!("it is gone, or was never this user's"),
//!     // The fault of the server: its detail names object, cause, blocker and remedy.
//!     Err(Error::Refused(refusal)) => println!("{} {:?}", refusal.status, refusal.detail),
//!     // Nobody knows whether the request was carried out: read before sending a change again.
//!     Err(error) if error.is_transient() => println!("{error}: ask again"),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```

mod beside;
mod connection;
mod error;
mod extent;
mod image;
mod near;
mod options;
mod request;
mod service;
mod services;
mod tls;
mod transport;
pub mod volume;

pub use beside::{Listening, Message};
pub use connection::{Builder, Connection};
pub use error::{Error, Refusal};
pub use extent::{Extent, ExtentContext};
pub use image::{BodyReader, ExtentReader, Features, ImageClient};
pub use options::{AddBackupOptions, CallOptions, GetOptions, ListOptions, RemoveOptions};
pub use request::Request;
pub use services::*;
/// What all representations are.
pub use stillpoint_wire::Wire;
/// The representations: what is sent and what comes back.
pub use stillpoint_wire::model as types;

/// An object that says nothing but an id: how requests name what there is already.
#[must_use]
pub fn by_id<T: types::Identified>(id: &str) -> T {
    let mut object = T::default();
    object.head_mut().id = Some(id.to_owned());
    object
}

/// The JSON form of a representation, as version 4 of the API has it: numbers and truth values are texts.
///
/// ```
/// use stillpoint_sdk::{by_id, to_json, types::Disk};
///
/// assert_eq!(to_json(&by_id::<Disk>("123")), r#"{"id":"123"}"#);
/// ```
#[must_use]
pub fn to_json<T: Wire>(object: &T) -> String {
    stillpoint_wire::write(object, stillpoint_wire::Encoding::Json)
}
