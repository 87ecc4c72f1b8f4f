//! Counts requests as they go by: family, status, and the time until the answer begins.

use super::Numbers;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use std::{sync::Arc, time::Instant};

/// Which part of the daemon a path belongs to: few words, whatever clients ask for.
fn family(path: &str) -> &'static str {
    let (first, rest) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    match first {
        "ovirt-engine" | "api" => "ovirt",
        "volume" | "identity" | "v1" | "v2" | "v2.1" | "v3" | "v5" => "volume",
        "images" => "data",
        "stillpoint" if rest.starts_with("v1/images") => "data",
        "stillpoint" => "native",
        "console" => "console",
        "health" | "metrics" => "daemon",
        _ => "other",
    }
}

/// Lets a request through, and counts it.
pub(crate) async fn count(State(numbers): State<Arc<Numbers>>, request: Request, next: Next) -> Response {
    let family = family(request.uri().path());
    counted(&numbers, family, request, next).await
}

/// Of the unix socket, the same: which way the bytes of disks go is worth knowing.
pub(crate) async fn count_local(State(numbers): State<Arc<Numbers>>, request: Request, next: Next) -> Response {
    let family = match family(request.uri().path()) {
        "data" => "data_local",
        // Nothing else is served there.
        _ => "other",
    };
    counted(&numbers, family, request, next).await
}

async fn counted(numbers: &Numbers, family: &'static str, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let answer = next.run(request).await;
    numbers.answered(family, answer.status().as_u16(), begun.elapsed());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_of_one_of_few_families() {
        for (path, expected) in [
            ("/ovirt-engine/api/vms/1", "ovirt"),
            ("/api", "ovirt"),
            ("/volume/v3/p/volumes", "volume"),
            ("/v2.1/p/cloudvolumes", "volume"),
            ("/images/ticket/extents", "data"),
            ("/stillpoint/v1/images/ticket/read", "data"),
            ("/stillpoint/v1/events", "native"),
            ("/console/", "console"),
            ("/health/ready", "daemon"),
            ("/../etc/passwd", "other"),
            ("/", "other"),
            ("", "other"),
        ] {
            assert_eq!(family(path), expected, "{path}");
        }
    }
}
