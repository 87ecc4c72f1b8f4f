//! From the options to a connection, and from a name to what it names.

use super::{
    Trouble, code,
    server::{Secret, Server, ServerOptions},
};
use stillpoint_sdk::{Connection, Error, GetOptions, ListOptions, types::Vm};

/// A connection as options, variables and profiles say.
pub(crate) fn connect(options: &ServerOptions) -> Result<Connection, Trouble> {
    connect_to(&options.resolve()?)
}

/// A connection to that server; nothing is sent.
pub(crate) fn connect_to(server: &Server) -> Result<Connection, Trouble> {
    let mut builder = Connection::builder(&server.url).user_agent(concat!("stillpoint/", env!("CARGO_PKG_VERSION")));
    builder = match &server.secret {
        Secret::Token(token) => builder.token(token),
        Secret::Password(password) => builder.user(&server.user, password),
    };
    if let Some(path) = &server.ca_file {
        builder = builder.ca_file(path);
    }
    builder.build().map_err(|error| {
        let hint = match error {
            Error::Setup { .. } => "check --ca-file or STILLPOINT_CA",
            _ => "check --url or STILLPOINT_URL",
        };
        Trouble::of("the connection cannot be made", error)
            .hint(hint)
            .code(code::USAGE)
    })
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
            return Err(Trouble::new(text)
                .hint("name the one you mean by its id: stillpoint vm list")
                .code(code::NOT_FOUND));
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
    Trouble::new(text)
        .hint("check the name and --user: stillpoint vm list")
        .code(code::NOT_FOUND)
}

/// The id of an object that came from the server.
pub(crate) fn id_of<T: stillpoint_sdk::types::Identified>(object: &T, what: &str) -> Result<String, Trouble> {
    let id = object.head().id.clone();
    id.ok_or_else(|| Trouble::new(format!("the server shows {what} without an id")))
}
