//! Who may do what: users, roles, permissions; and tags.

use super::*;
use crate::describe::describe;

describe! {
    /// A user of a directory domain.
    User: "user" / "users", by head {
        flat head: Header,
        el department: String,
        el domain_entry_id: String,
        el email: String,
        el last_name: String,
        el namespace: String,
        el principal: String,
        el user_name: String,
        el domain: Box<Domain>,
        el permissions: Vec<Permission>,
        el roles: Vec<Role>,
        el tags: Vec<Tag>,
    }

    /// A directory domain.
    Domain: "domain" / "domains", by head {
        flat head: Header,
    }

    /// A group of users.
    Group: "group" / "groups", by head {
        flat head: Header,
        el domain_entry_id: String,
        el namespace: String,
        el domain: Box<Domain>,
    }

    /// A set of permits.
    Role: "role" / "roles", by head {
        flat head: Header,
        el administrative: bool,
        el mutable: bool,
        el permits: Vec<Permit>,
    }

    /// One thing that a role allows.
    Permit: "permit" / "permits", by head {
        flat head: Header,
        el administrative: bool,
        el role: Box<Role>,
    }

    /// A role given to somebody on something.
    Permission: "permission" / "permissions", by head {
        flat head: Header,
        el cluster: Box<Cluster>,
        el data_center: Box<DataCenter>,
        el disk: Box<Disk>,
        el group: Box<Group>,
        el host: Box<Host>,
        el role: Box<Role>,
        el storage_domain: Box<StorageDomain>,
        el template: Box<Template>,
        el user: Box<User>,
        el vm: Box<Vm>,
    }

    /// A label that can be put on objects.
    Tag: "tag" / "tags", by head {
        flat head: Header,
        el host: Box<Host>,
        el parent: Box<Tag>,
        el template: Box<Template>,
        el user: Box<User>,
        el vm: Box<Vm>,
    }
}
