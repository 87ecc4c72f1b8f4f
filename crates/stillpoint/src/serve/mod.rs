//! The daemon: puts the rooms together, serves until it is asked to stop.

mod config;
mod data_dir;
mod health;
mod listen;
mod log;
mod metrics;
#[cfg(test)]
mod reference;
mod tls;

use crate::{
    Failure,
    cli::{ApiChoice, ServeOptions},
};
use config::Config;
use listen::Door;
use std::{io::Write, path::Path, process::ExitCode, sync::Arc, time::Duration};
use stillpoint_api_ovirt::{Api, Dialect, Settings};
use stillpoint_auth::{Auth, Bootstrap};
use stillpoint_console::Console;
use stillpoint_engine::{Engine, Options, ports::DriverErrorKind};
use stillpoint_qemu::{Qemu, images::LocalImages};
use stillpoint_store::{Store, StoreError};
use stillpoint_transfer::Transfer;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(crate) use config::default_data_dir;

/// How long requests and steps that are under way may go on after the daemon was asked to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Runs the daemon until SIGTERM or SIGINT.
pub(crate) async fn run(options: ServeOptions) -> Result<ExitCode, Failure> {
    let config = Config::merge(options)?;
    log::start(config.log);
    let _lock = data_dir::take(&config.data_dir)?;
    let bootstrap = config
        .bootstrap
        .as_deref()
        .map(Bootstrap::load)
        .transpose()
        .map_err(configuration)?;
    let listener = listen::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let certificate = tls::prepare(&config, address.ip())?;
    let local = if config.local_images {
        listen::bind_local()
    } else {
        None
    };

    let rooms = open_rooms(&config, bootstrap.as_ref()).await?;
    let url = config.public_url(address, certificate.is_some());
    let stopping = CancellationToken::new();
    let (local, unix_socket) = local.unzip();
    let (router, images) = rooms.routers(&config, &url, certificate.as_ref(), unix_socket, &stopping);
    stop_on_signal(stopping.clone())?;

    // The one line on standard output, which whoever started the daemon waits for.
    writeln!(std::io::stdout(), "stillpoint ready {url}")?;
    std::io::stdout().flush()?;
    tracing::info!(url, "ready");
    let mut doors = vec![Door::tcp(listener, certificate.map(|c| c.server), router)];
    doors.extend(local.map(|listener| Door::local(listener, images)));
    listen::serve(doors, stopping, STOP_LIMIT).await;
    tracing::info!("stopping; guests run on");
    rooms.engine.stop(STOP_LIMIT).await;
    rooms.store.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// What is open while the daemon runs.
struct Rooms {
    store: Store,
    auth: Auth,
    engine: Engine,
    data_plane: Transfer,
}

/// Opens the rooms, the core last: it looks for guests and goes on with jobs.
async fn open_rooms(config: &Config, bootstrap: Option<&Bootstrap>) -> Result<Rooms, Failure> {
    let (qemu, sentence) = Qemu::new(stillpoint_qemu::Config::new(config.data_dir.clone(), config.accel()))
        .await
        .map_err(|error| {
            let code = match error.kind {
                DriverErrorKind::NotFound | DriverErrorKind::Unsupported => 5,
                _ => 1,
            };
            Failure::new(code, error.chain())
        })?;
    tracing::info!("{sentence}");
    let store = open_store(&config.data_dir).await?;
    let auth = Auth::open(store.clone(), &config.data_dir.join("keys").join("secret.key")).await?;
    apply_users(&auth, bootstrap, &config.data_dir).await?;
    let data_plane = Transfer::new();
    let engine = Engine::open(
        store.clone(),
        Arc::new(qemu),
        Arc::new(LocalImages::new("qemu-img")),
        Arc::new(data_plane.clone()),
        engine_options(config),
    )
    .await
    .map_err(|fault| Failure::new(1, fault.log_chain()))?;
    Ok(Rooms {
        store,
        auth,
        engine,
        data_plane,
    })
}

impl Rooms {
    /// All edges, under one address; and the data plane alone, for `unix_socket`.
    fn routers(
        &self,
        config: &Config,
        url: &str,
        certificate: Option<&tls::Certificate>,
        unix_socket: Option<String>,
        stopping: &CancellationToken,
    ) -> (axum::Router, axum::Router) {
        let (engine, auth) = (&self.engine, &self.auth);
        let settings = Settings {
            public_url: url.to_owned(),
            certificates: certificate.map(tls::Certificate::to_give_away),
            default_dialect: match config.default_api {
                ApiChoice::V3 => Dialect::V3,
                ApiChoice::V4 => Dialect::V4,
            },
        };
        let counted = Arc::new(metrics::Numbers::new());
        let numbers = metrics::Sources {
            store: self.store.clone(),
            auth: auth.clone(),
            engine: engine.clone(),
            data_plane: self.data_plane.clone(),
            numbers: Arc::clone(&counted),
        };
        let ovirt = stillpoint_api_ovirt::router(Api::new(engine.clone(), auth.clone(), settings));
        let apis = stillpoint_api_volume::router(volume_api(engine, auth, url, config))
            .merge(stillpoint_api_native::router(native_api(engine, auth, url, stopping)))
            .fallback_service(ovirt);
        let console = stillpoint_console::Settings {
            public_url: url.to_owned(),
            apis: apis.clone(),
            stopping: stopping.clone(),
        };
        let console = Console::new(engine.clone(), auth.clone(), console);
        let images = stillpoint_transfer::router(self.data_plane.clone(), unix_socket);
        let local = axum::middleware::from_fn_with_state(Arc::clone(&counted), metrics::count_local);
        let all = health::router(engine.clone())
            .merge(metrics::router(numbers))
            .merge(images.clone())
            .merge(stillpoint_console::router(console))
            .merge(apis)
            .layer(axum::middleware::from_fn_with_state(counted, metrics::count));
        (all, images.layer(local))
    }
}

fn configuration(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(2, format!("{:#}", error.into()))
}

/// The volume API with its identity service.
fn volume_api(engine: &Engine, auth: &Auth, url: &str, config: &Config) -> stillpoint_api_volume::Api {
    let settings = stillpoint_api_volume::Settings {
        public_url: url.to_owned(),
        network_stub: config.network_stub,
    };
    stillpoint_api_volume::Api::new(engine.clone(), auth.clone(), settings)
}

/// Our own family.
fn native_api(engine: &Engine, auth: &Auth, url: &str, stopping: &CancellationToken) -> stillpoint_api_native::Api {
    let settings = stillpoint_api_native::Settings {
        public_url: url.to_owned(),
        stopping: stopping.clone(),
    };
    stillpoint_api_native::Api::new(engine.clone(), auth.clone(), settings)
}

fn engine_options(config: &Config) -> Options {
    let defaults = Options::in_data_dir(&config.data_dir);
    Options {
        boot_dirs_allowed: config.boot_dirs.clone(),
        user_freeze: config.user_freeze.unwrap_or(defaults.user_freeze),
        ..defaults
    }
}

async fn open_store(data_dir: &Path) -> Result<Store, Failure> {
    let path = data_dir.join("stillpoint.db");
    let opened = tokio::task::spawn_blocking(move || Store::open(&path)).await?;
    opened.map_err(|error| {
        let code = if matches!(error, StoreError::Newer { .. }) {
            6
        } else {
            1
        };
        Failure::new(code, format!("{:#}", anyhow::Error::from(error)))
    })
}

async fn apply_users(auth: &Auth, bootstrap: Option<&Bootstrap>, data_dir: &Path) -> Result<(), Failure> {
    match bootstrap {
        Some(bootstrap) => auth.apply_bootstrap(bootstrap).await.map_err(configuration),
        None => {
            if let Some(file) = auth.first_start(data_dir).await? {
                tracing::info!(file = %file.display(), "made user admin@internal; its password is in the file");
            }
            Ok(())
        }
    }
}

fn stop_on_signal(stopping: CancellationToken) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A terminal that goes away is no reason to stop.
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {}
            }
        }
        stopping.cancel();
    });
    Ok(())
}
