//! A client of OpenStack's volume API (Cinder v3), and of the identity service (Keystone v3) that its clients log in with.
//!
//! It works against any cloud of these APIs: where Cinder is, it learns from the catalogue that comes with a login. One
//! microversion is spoken, 3.42 (OpenStack Pike): reverting came with 3.40, extending a volume in use with 3.42.
//!
//! * [`Cloud`]: where the identity service is, who asks, and in which project. Nothing is sent until the first request.
//! * `cloud.volumes()`, `cloud.create_volume()`, `cloud.settled_volume()`...: volumes and their snapshots.
//! * `cloud.users()`, `cloud.grant()`, `cloud.create_credential()`...: users, projects, roles, application credentials.
//! * Objects have named fields for what a program asks for, and keep all else that the server said, see [`Volume`].
//! * Errors are [`Error`](crate::Error): a refusal carries the fault's name (`badRequest`) and message.
//!
//! ```no_run
//! use std::time::Duration;
//! use stillpoint_sdk::volume::{Cloud, NewVolume};
//!
//! # async fn example() -> Result<(), stillpoint_sdk::Error> {
//! let cloud = Cloud::builder("http://127.0.0.1:8080/identity/v3")
//!     .user("alice", "secret")
//!     .project("demo")
//!     .build()?;
//! let made = cloud.create_volume(&NewVolume { name: "data".into(), size: Some(10), ..NewVolume::default() }).await?;
//! let volume = cloud.settled_volume(&made.id, Duration::from_secs(60)).await?;
//! println!("{:?} has {:?} GiB", volume.name, volume.size);
//! let before = cloud.create_snapshot(&volume.id, "before upgrade", None).await?;
//! cloud.settled_snapshot(&before.id, Duration::from_secs(60)).await?;
//! cloud.revert_volume(&volume.id, &before.id).await?;
//! # Ok(())
//! # }
//! ```

mod answer;
mod builder;
mod cloud;
mod credential;
mod identity;
mod login;
mod volumes;
mod wait;

pub use builder::{CloudBuilder, Scope};
pub use cloud::Cloud;
pub use credential::{Credential, NewCredential};
pub use identity::{Assignment, Named, NewUser, Project, User, UserChange};
pub use login::{Login, Place};
pub use volumes::{NewVolume, Snapshot, Volume};

#[cfg(test)]
mod tests;
