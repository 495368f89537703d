//! Three clients: one for watches, which must not time out while nothing happens, one for requests, each of which has a
//! deadline, is never repeated behind our back, and keeps to a rate, and one for the election, which keeps to none: a
//! renewal that queues behind other requests comes too late.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::limit::RateLimitLayer;

use crate::telemetry::{CountRequests, Metrics};

/// How long the API server is waited for.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// A watch that is silent for longer has lost its server, its start included.
    watch_silence: Duration,
    /// Longest answer to a request.
    answer: Duration,
    /// Longest time to connect.
    connect: Duration,
}

/// The API server cuts a watch after 290 s.
const LIMITS: Limits = Limits {
    watch_silence: Duration::from_secs(330),
    answer: Duration::from_secs(15),
    connect: Duration::from_secs(10),
};

/// The three clients.
#[derive(Clone)]
pub struct Clients {
    /// For watches.
    pub watch: Client,
    /// For requests.
    pub request: Client,
    /// For the Lease of the leader.
    pub election: Client,
}

/// Makes them from the environment: in a cluster, or from a kubeconfig.
///
/// # Errors
/// If there is no configuration, or it is not usable.
pub async fn connect(per_second: u32, metrics: &Metrics) -> Result<Clients, kube::Error> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    all(config, per_second, LIMITS, &CountRequests { into: metrics.api_requests.clone() })
}

fn all(
    config: Config,
    per_second: u32,
    limits: Limits,
    count: &CountRequests,
) -> Result<Clients, kube::Error> {
    let mut watch = config.clone();
    watch.connect_timeout = Some(limits.connect);
    watch.read_timeout = Some(limits.watch_silence);
    let mut request = config;
    request.connect_timeout = Some(limits.connect);
    request.read_timeout = Some(limits.answer);
    request.write_timeout = Some(limits.answer);
    // Else the time that a connection lies idle in the pool counts against the next answer.
    request.reset_reader_on_write = true;
    request.default_retry = false;
    let rate = RateLimitLayer::new(u64::from(per_second), Duration::from_secs(1));
    Ok(Clients {
        watch: ClientBuilder::try_from(watch)?.with_layer(count).build(),
        election: ClientBuilder::try_from(request.clone())?.with_layer(count).build(),
        request: ClientBuilder::try_from(request)?.with_layer(count).with_layer(&rate).build(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::TryStreamExt;
    use k8s_openapi::api::core::v1::Node;
    use kube::Api;
    use kube::api::PostParams;
    use kube::runtime::watcher;
    use prometheus_client::metrics::family::Family;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const BRIEF: Limits = Limits {
        watch_silence: Duration::from_millis(300),
        answer: Duration::from_millis(300),
        connect: Duration::from_secs(10),
    };
    /// No answer of the clients takes so long, however busy the machine is.
    const LONG: Duration = Duration::from_secs(30);

    /// Status line and body for a request line; `None`: no answer, the connection stays open.
    type Answer = fn(&str) -> Option<(&'static str, &'static str)>;

    /// Clients of a server that answers so, and how often it was asked.
    async fn clients(per_second: u32, limits: Limits, answer: Answer) -> (Clients, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                        match stream.read_buf(&mut head).await {
                            Ok(1..) => {}
                            _ => return,
                        }
                    }
                    count.fetch_add(1, Ordering::AcqRel);
                    let head = String::from_utf8_lossy(&head).into_owned();
                    match answer(head.lines().next().unwrap_or_default()) {
                        Some((status, body)) => {
                            let length = body.len();
                            let text = format!(
                                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
                                 content-length: {length}\r\n\r\n{body}"
                            );
                            let _gone = stream.write_all(text.as_bytes()).await;
                        }
                        None => std::future::pending().await,
                    }
                });
            }
        });
        let uncounted = CountRequests { into: Family::default() };
        let clients = all(Config::new(url.parse().unwrap()), per_second, limits, &uncounted).unwrap();
        (clients, asked)
    }

    #[tokio::test]
    async fn a_request_is_sent_once_whatever_is_answered() {
        let (clients, asked) =
            clients(300, LIMITS, |_| Some(("504 Gateway Timeout", r#"{"status":"Failure","code":504}"#)))
                .await;
        let nodes: Api<Node> = Api::all(clients.request);
        assert!(nodes.create(&PostParams::default(), &Node::default()).await.is_err());
        assert!(nodes.get("a").await.is_err());
        assert_eq!(asked.load(Ordering::Acquire), 2, "a create that was done would be done twice");
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let (clients, _) = clients(300, BRIEF, |_| None).await;
        let nodes: Api<Node> = Api::all(clients.request);
        let answer = tokio::time::timeout(LONG, nodes.get("a")).await;
        assert!(answer.expect("waits for ever").is_err());
    }

    #[tokio::test]
    async fn a_watch_whose_start_is_never_answered_fails() {
        let (clients, _) = clients(300, BRIEF, |line| {
            let list =
                r#"{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
            (!line.contains("watch=true")).then_some(("200 OK", list))
        })
        .await;
        let mut events =
            std::pin::pin!(watcher::watcher(Api::<Node>::all(clients.watch), watcher::Config::default()));
        for expected in ["Init", "InitDone"] {
            let event = tokio::time::timeout(LONG, events.try_next()).await.unwrap().unwrap().unwrap();
            assert_eq!(format!("{event:?}"), expected);
        }
        let start = tokio::time::timeout(LONG, events.try_next()).await;
        assert!(start.expect("waits for ever").is_err());
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "measures")]
    async fn requests_keep_to_their_rate() {
        let (clients, asked) =
            clients(5, LIMITS, |_| Some(("404 Not Found", r#"{"status":"Failure","code":404}"#))).await;
        let nodes: Api<Node> = Api::all(clients.request);
        let begun = std::time::Instant::now();
        for _ in 0..6 {
            let _not_found = nodes.get("a").await;
        }
        assert_eq!(asked.load(Ordering::Acquire), 6);
        assert!(begun.elapsed() >= Duration::from_millis(900), "{:?} for 6 at 5 a second", begun.elapsed());
    }
}
