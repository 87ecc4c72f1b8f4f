//! From the options to a connection, and from a name to what it names.

use super::{Trouble, options::ServerOptions};
use std::path::Path;
use stillpoint_sdk::{Connection, Error, GetOptions, ListOptions, types::Vm};

/// A connection as the options say.
pub(crate) fn connect(options: &ServerOptions) -> Result<Connection, Trouble> {
    let mut builder = Connection::builder(&options.url).user_agent(concat!("stillpoint/", env!("CARGO_PKG_VERSION")));
    if let Some(token) = &options.token {
        builder = builder.token(token);
    } else {
        builder = builder.user(&options.user, password(options.password_file.as_deref())?);
    }
    if let Some(path) = &options.ca_file {
        builder = builder.ca_file(path);
    }
    builder.build().map_err(|error| match error {
        Error::Setup { .. } => {
            Trouble::of("the connection cannot be made", error).hint("check --ca-file or STILLPOINT_CA")
        }
        error => Trouble::of("the connection cannot be made", error).hint("check --url or STILLPOINT_URL"),
    })
}

fn password(file: Option<&Path>) -> Result<String, Trouble> {
    let Some(path) = file else {
        return std::env::var("STILLPOINT_PASSWORD").map_err(|error| {
            Trouble::of("there is no password", error)
                .hint("give --password-file FILE or set STILLPOINT_PASSWORD; the daemon's first one is in DATA_DIR/admin-password")
        });
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Trouble::of(format!("reading the password file {} failed", path.display()), error))?;
    // Editors end a file with a line end; it is not part of the password.
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The VM that a user means by its id or its name, with all that the server says about it.
pub(crate) async fn find_vm(connection: &Connection, wanted: &str) -> Result<Vm, Trouble> {
    let vms = connection.system_service().vms_service();
    let mut id = wanted.to_owned();
    if uuid::Uuid::parse_str(wanted).is_err() {
        // Whatever the search language makes of the name, the exact one is looked for here.
        let quoted = wanted.replace(['"', '\\'], "*");
        let found = vms
            .list(ListOptions::new().search(&format!("name=\"{quoted}\"")))
            .await?;
        let mut ids = found.into_iter().filter(|vm| vm.head.name.as_deref() == Some(wanted));
        let first = ids.next().and_then(|vm| vm.head.id);
        id = first.ok_or_else(|| no_vm(wanted))?;
        if ids.next().is_some() {
            let text = format!("there are several VMs named {wanted:?}");
            return Err(Trouble::new(text).hint("name the one you mean by its id"));
        }
    }
    match vms.vm_service(&id).get(GetOptions::new().all_content(true)).await {
        Ok(vm) => Ok(vm),
        Err(Error::NotFound(_)) => Err(no_vm(wanted)),
        Err(error) => Err(error.into()),
    }
}

fn no_vm(wanted: &str) -> Trouble {
    let text = format!("there is no VM {wanted:?}, or this user may not see it");
    Trouble::new(text).hint("check the name and --user")
}

/// The id of an object that came from the server.
pub(crate) fn id_of<T: stillpoint_sdk::types::Identified>(object: &T, what: &str) -> Result<String, Trouble> {
    let id = object.head().id.clone();
    id.ok_or_else(|| Trouble::new(format!("the server shows {what} without an id")))
}
