//! A way to the API server that counts a controller's writes and plays a trick at one of them: ends the controller's
//! life, holds a request back, or refuses it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;
use video_upscale::api::keys::{self, Role};

use crate::played::cluster::AGAIN;
use crate::played::way::{self, created_pod, forward};

/// A process that got its answer lives on for so long if it asks nothing more.
const LAST_BREATH: Duration = Duration::from_millis(100);

/// Until when somebody else has to have made a pod.
pub const NOBODY_CAME: Duration = Duration::from_secs(8);

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

/// What happens to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// The controller dies.
    Die(Cut),
    /// The n-th create of a segment's pod arrives late, whether anybody still waits for the answer or not.
    Stall {
        /// From 1.
        create: u32,
        /// By so much.
        length: Duration,
    },
    /// The n-th create of a segment's pod is refused once somebody else has made that pod; or goes through, if nobody
    /// does in [`NOBODY_CAME`].
    RefuseOnceMade {
        /// From 1.
        create: u32,
    },
}

impl fmt::Display for Trick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Die(cut) => write!(f, "dead_{cut}"),
            Self::Stall { create, length } => write!(f, "create_{create}_stalled_for_{}_s", length.as_secs()),
            Self::RefuseOnceMade { create } => write!(f, "create_{create}_refused_once_made"),
        }
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
    trick: Option<Trick>,
    kill: Kill,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    writes: u32,
    creates: u32,
    kinds: BTreeMap<String, u32>,
    struck: Option<String>,
    /// The answer to the fatal write is on its way.
    dying: bool,
}

impl Proxy {
    /// Opens it.
    pub async fn open(client: Client, trick: Option<Trick>, kill: Kill) -> Self {
        let shared = Arc::new(Shared { client, trick, kill, seen: Mutex::default() });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let (address, server) = way::open(router).await;
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
    // Nobody waits for events.
    let kind = way::kind(&request).filter(|kind| !kind.ends_with("events"));
    let (pod, request) = created_pod(kind.as_deref(), request).await;
    let segment = pod.and_then(|pod| segment(&pod));
    let Some(blow) = shared.count(kind, segment.is_some()) else {
        return forward(&shared.client, request).await;
    };
    let place = match (blow, segment) {
        (Blow::Death(place), _) => place,
        (Blow::Late(length), _) => {
            // In a task of its own, as nobody may wait for it any more.
            let late = tokio::spawn(async move {
                tokio::time::sleep(length).await;
                forward(&shared.client, request).await
            });
            return late.await.unwrap();
        }
        (Blow::RefusedOnceMade, Some(pod)) => {
            return match tokio::time::timeout(NOBODY_CAME, shared.made(&pod)).await {
                Ok(()) => refusal(),
                Err(_) => forward(&shared.client, request).await,
            };
        }
        (Blow::RefusedOnceMade, None) => return forward(&shared.client, request).await,
    };
    match place {
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
    /// Counts a write, and says what happens to it. A request after a fatal answer is the last one, too.
    fn count(&self, kind: Option<String>, creates_segment: bool) -> Option<Blow> {
        let mut seen = self.seen.lock().unwrap();
        if seen.dying {
            return Some(Blow::Death(Place::Before));
        }
        let kind = kind?;
        seen.writes += 1;
        seen.creates += u32::from(creates_segment);
        *seen.kinds.entry(kind.clone()).or_default() += 1;
        if seen.struck.is_some() {
            return None;
        }
        let is_create = |create: u32| creates_segment && create == seen.creates;
        let blow = match self.trick? {
            Trick::Die(cut) if cut.write == seen.writes => Blow::Death(cut.place),
            Trick::Stall { create, length } if is_create(create) => Blow::Late(length),
            Trick::RefuseOnceMade { create } if is_create(create) => Blow::RefusedOnceMade,
            _ => return None,
        };
        seen.struck = Some(kind);
        seen.dying = matches!(blow, Blow::Death(_));
        Some(blow)
    }

    /// Waits until a pod is there.
    async fn made(&self, pod: &Made) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        while pods.get_opt(&pod.name).await.unwrap().is_none() {
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn strike(&self) {
        (self.kill)();
        self.seen.lock().unwrap().dying = false;
    }
}

/// What happens to one write.
enum Blow {
    Death(Place),
    Late(Duration),
    RefusedOnceMade,
}

/// A segment's pod that somebody wants to make.
struct Made {
    namespace: String,
    name: String,
}

/// The segment's pod that a pod is, if it is one.
fn segment(pod: &Pod) -> Option<Made> {
    let role = pod.labels().get(keys::ROLE).and_then(|role| Role::parse(role));
    // The namespace stands in the path, and in our own objects.
    let made = || Made { namespace: pod.namespace().unwrap_or_default(), name: pod.name_any() };
    (role == Some(Role::Segment)).then(made)
}

/// What a quota or a policy says.
fn refusal() -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "refused by the test", "reason": "Forbidden", "code": 403});
    (StatusCode::FORBIDDEN, [("content-type", "application/json")], status.to_string()).into_response()
}

/// The answer to a process that is dead.
fn nobody() -> Response {
    StatusCode::BAD_GATEWAY.into_response()
}
