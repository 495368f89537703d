//! A way to the API server that counts the controller's writes and ends its life at one of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Largest request that is passed on, bytes.
const LARGEST: usize = 4 << 20;
/// A process that got its answer lives on for so long if it asks nothing more.
const LAST_BREATH: Duration = Duration::from_millis(100);

/// Where in a write the controller dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The request never arrives.
    Before,
    /// It is done, and nobody hears the answer.
    At,
    /// The answer arrives; the next request does not.
    After,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Before, Self::At, Self::After];
}

/// When the controller dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// At its n-th write, from 1.
    pub write: u32,
    /// Where in it.
    pub place: Place,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Before => "before",
            Place::At => "at",
            Place::After => "after",
        };
        write!(f, "{place}_write_{}", self.write)
    }
}

/// Ends the controller's process; returns when it is gone.
pub type Kill = Arc<dyn Fn() + Send + Sync>;

/// The way; closed when dropped.
pub struct Proxy {
    /// Where it begins.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    client: Client,
    cut: Option<Cut>,
    kill: Kill,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    writes: u32,
    kinds: BTreeMap<String, u32>,
    struck: Option<String>,
    /// The answer to the fatal write is on its way.
    dying: bool,
}

impl Proxy {
    /// Opens it.
    pub async fn open(client: Client, cut: Option<Cut>, kill: Kill) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { client, cut, kill, seen: Mutex::default() });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, server }
    }

    /// Writes of each kind so far.
    pub fn kinds(&self) -> BTreeMap<String, u32> {
        self.shared.seen.lock().unwrap().kinds.clone()
    }

    /// The write at which the controller died.
    pub fn struck(&self) -> Option<String> {
        self.shared.seen.lock().unwrap().struck.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let Some(fatal) = shared.count(&request) else {
        return forward(&shared.client, request).await;
    };
    match fatal {
        Place::Before => {
            shared.strike();
            nobody()
        }
        Place::At => {
            let _unheard = forward(&shared.client, request).await;
            shared.strike();
            nobody()
        }
        Place::After => {
            let answer = forward(&shared.client, request).await;
            tokio::spawn(async move {
                tokio::time::sleep(LAST_BREATH).await;
                shared.strike();
            });
            answer
        }
    }
}

impl Shared {
    /// Counts a write; `Some` if it is the fatal one. A request after a fatal answer is the last one, too.
    fn count(&self, request: &Request) -> Option<Place> {
        let mut seen = self.seen.lock().unwrap();
        if seen.dying {
            return Some(Place::Before);
        }
        let kind = kind(request)?;
        seen.writes += 1;
        *seen.kinds.entry(kind.clone()).or_default() += 1;
        let cut = self.cut.filter(|cut| cut.write == seen.writes && seen.struck.is_none())?;
        seen.struck = Some(kind);
        seen.dying = true;
        Some(cut.place)
    }

    fn strike(&self) {
        (self.kill)();
        self.seen.lock().unwrap().dying = false;
    }
}

/// What a write is; `None` for reads and for events, which nobody waits for.
fn kind(request: &Request) -> Option<String> {
    let verb = match *request.method() {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => return None,
    };
    let path: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
    let from = path.iter().position(|part| *part == "namespaces").map_or(path.len().min(3), |at| at + 2);
    let resource = path.get(from).copied().unwrap_or_default();
    let part = path.get(from + 2).map(|sub| format!("/{sub}")).unwrap_or_default();
    (resource != "events").then(|| format!("{verb} {resource}{part}"))
}

async fn forward(client: &Client, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LARGEST).await.unwrap();
    let uri = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = axum::http::Request::builder().method(parts.method).uri(uri);
    for name in ["content-type", "accept"] {
        if let Some(value) = parts.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let onward = onward.body(kube::client::Body::from(body.to_vec())).unwrap();
    match client.send(onward).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// The answer to a process that is dead.
fn nobody() -> Response {
    StatusCode::BAD_GATEWAY.into_response()
}
