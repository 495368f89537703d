//! Two clients: one for watches, which must not time out while nothing happens, and one for requests, each of which
//! has a deadline, is never repeated behind our back, and keeps to a rate.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::limit::RateLimitLayer;

use crate::telemetry::{CountRequests, Metrics};

/// A watch is cut by the API server after 290 s; one that is silent for longer has lost its server.
const WATCH_SILENCE: Duration = Duration::from_secs(330);
/// Longest answer to a request.
const ANSWER: Duration = Duration::from_secs(15);
/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// The two clients.
#[derive(Clone)]
pub struct Clients {
    /// For watches.
    pub watch: Client,
    /// For requests.
    pub request: Client,
}

/// Makes both from the environment: in a cluster, or from a kubeconfig.
///
/// # Errors
/// If there is no configuration, or it is not usable.
pub async fn connect(per_second: u32, metrics: &Metrics) -> Result<Clients, kube::Error> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    let mut watch = config.clone();
    watch.connect_timeout = Some(CONNECT);
    watch.read_timeout = Some(WATCH_SILENCE);
    let mut request = config;
    request.connect_timeout = Some(CONNECT);
    request.read_timeout = Some(ANSWER);
    request.write_timeout = Some(ANSWER);
    // Else the time that a connection lies idle in the pool counts against the next answer.
    request.reset_reader_on_write = true;
    request.default_retry = false;
    let rate = RateLimitLayer::new(u64::from(per_second), Duration::from_secs(1));
    let count = CountRequests { into: metrics.api_requests.clone() };
    Ok(Clients {
        watch: ClientBuilder::try_from(watch)?.with_layer(&count).build(),
        request: ClientBuilder::try_from(request)?.with_layer(&count).with_layer(&rate).build(),
    })
}
