//! Checkpoints: what is known of a VM's past, so that a backup need only hold what changed since.
//!
//! # Allocation is the change map
//! A checkpoint has for each of its disks an *anchor*, an image, and a *map*, a file. **What the disk holds now differs
//! from what it held at the checkpoint only within the map and the clusters that are allocated in the images above the
//! anchor** (and beyond the disk's size then). More may be told than changed, never less. When the checkpoint is made its
//! anchor is the image that was frozen at that instant, and its map is empty.
//!
//! Nothing has to be kept in memory or in step with a guest, so nothing is lost when QEMU or the machine dies: an overlay
//! that a guest writes to *is* the record. What moves content between images moves the record first ([`track`]):
//!
//! | what happens | before | then, in one transaction |
//! |---|---|---|
//! | an image is merged into an anchored one | what it holds goes into the maps of all that is anchored there | what was anchored at the image is anchored at the survivor |
//! | a left branch is unlinked (restore) | what its leaf holds goes into the maps of all that is anchored at it | they are anchored at its parent |
//!
//! # Crash consistency
//! A map is durable before the first byte moves, and adding to a map twice changes nothing. A map that cannot be written
//! or read takes its disk out of its checkpoint, with an event: the next backup holds all of that disk. Users' removals
//! and merges never wait for maps.
//!
//! All of this is of writing that we know of. What somebody else wrote into a frozen image is found by its [`seal`].

pub(crate) mod delete;
#[cfg(test)]
mod model;
pub(crate) mod seal;
pub(crate) mod track;
pub(crate) mod view;
