//! Starts the loops and joins them: the fleet, one job loop per namespace served, profiles, and the endpoints. Until this
//! process is elected only the watches of the fleet run, so that it knows everything when its turn comes; nothing is
//! written before.

pub mod attempts;
mod clients;
pub mod profiles;
pub mod standing;
pub mod video_upscale;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client};
use thiserror::Error;
use tokio::sync::watch;

use crate::api::keys;
use crate::config::{Config, LeaderElection};
use crate::election::{self, Role};
use crate::fleet::{self, FleetConfig, FleetHandle};
use crate::telemetry::{self, Telemetry};

/// Pause before something that the start needs is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Passes in flight at the shutdown get that long to end.
const GRACE: Duration = Duration::from_secs(4);
/// How often readiness is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Why the controller ended.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no way to the API server.
    #[error("make a client for the API server: {0}")]
    Client(Box<kube::Error>),
    /// The endpoints could not be served.
    #[error(transparent)]
    Serve(telemetry::ServeError),
    /// Another may act now.
    #[error(transparent)]
    Lost(election::Lost),
}

/// Runs everything until the shutdown; gives the lead back once nothing acts any more.
///
/// # Errors
/// If it cannot begin, the endpoints cannot be served, or the lead is lost; everything else is tried again.
pub async fn run(config: Config, shutdown: watch::Receiver<bool>) -> Result<(), Error> {
    let telemetry = Telemetry::new();
    let clients = clients::connect(config.client_qps, &telemetry.metrics).await;
    let clients = clients.map_err(|e| Error::Client(Box::new(e)))?;
    let stop = || stopped(shutdown.clone());
    let endpoints = telemetry::serve(config.listen, config.metrics, telemetry.clone(), stop);
    let endpoints = async { endpoints.await.map_err(Error::Serve) };
    let actor = format!("{:08x}", rand::random::<u32>());
    let (tell_role, role) = watch::channel(Role::Unknown);
    let (tell_end, ended) = watch::channel(false);
    let loops = async {
        let overdue = async {
            stopped(shutdown.clone()).await;
            pause(GRACE).await;
        };
        tokio::select! {
            () = loops(&config, &actor, &clients, &telemetry, &role, &shutdown) => {}
            () = overdue => tracing::warn!("not everything has ended in time"),
        }
        tell_end.send_replace(true);
        Ok(())
    };
    let election = async {
        if config.leader_election == LeaderElection::Off {
            tell_role.send_replace(Role::Leader);
            return Ok(());
        }
        let (request, watches) = (clients.election.clone(), clients.watch.clone());
        election::run(&config.election(&actor), request, watches, &tell_role, ended)
            .await
            .map_err(Error::Lost)
    };
    futures::try_join!(endpoints, loops, election).map(drop)
}

async fn loops(
    config: &Config,
    actor: &str,
    clients: &clients::Clients,
    telemetry: &Telemetry,
    role: &watch::Receiver<Role>,
    shutdown: &watch::Receiver<bool>,
) {
    telemetry.waits_for(vec!["an answer of the API server"]);
    let cluster = cluster(&clients.request).await;
    let fleet = FleetHandle::new(FleetConfig {
        namespace: config.namespace.clone(),
        actor: actor.to_owned(),
        watch_namespaces: config.namespaces(),
    });
    let reporter =
        Reporter { controller: keys::MANAGED_BY.to_owned(), instance: Some(config.pod_name.clone()) };
    let recorder = Recorder::new(clients.request.clone(), reporter);
    let fleet_loop = fleet::run(
        fleet.clone(),
        fleet::Clients {
            watch: clients.watch.clone(),
            request: clients.request.clone(),
            recorder: recorder.clone(),
        },
        elected(role.clone()),
        stopped(shutdown.clone()),
    );
    let acting = async {
        let turn = async {
            stand_by(&fleet, telemetry, role.clone()).await;
            telemetry.waits_for(vec!["the definitions of our kinds"]);
            telemetry.leads();
            apply_profiles(config, &clients.request).await;
        };
        tokio::select! {
            () = turn => {}
            () = stopped(shutdown.clone()) => return,
        }
        act(config, clients, telemetry, &fleet, recorder, cluster, shutdown).await;
    };
    futures::join!(fleet_loop, acting);
}

/// Says what a process still waits for that is to know the fleet, until it is elected.
async fn stand_by(fleet: &FleetHandle, telemetry: &Telemetry, mut role: watch::Receiver<Role>) {
    loop {
        let now = role.borrow_and_update().clone();
        let mut missing = fleet.missing();
        match now {
            Role::Leader => return,
            Role::Standby => {}
            Role::Unknown => missing.push("the Lease of the leader"),
        }
        let pause = if missing.is_empty() { Duration::MAX } else { LOOK };
        telemetry.waits_for(missing);
        // Either way it is time to look again.
        let _changed_or_elapsed = tokio::time::timeout(pause, role.changed()).await;
    }
}

/// What only the leader does: the jobs and the profiles.
async fn act(
    config: &Config,
    clients: &clients::Clients,
    telemetry: &Telemetry,
    fleet: &FleetHandle,
    recorder: Recorder,
    cluster: String,
    shutdown: &watch::Receiver<bool>,
) {
    let namespaces = config.namespaces();
    let scopes: Vec<Option<&str>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().map(|name| Some(name.as_str())).collect()
    };
    let (controllers, stores): (Vec<_>, Vec<_>) = scopes
        .into_iter()
        .map(|scope| video_upscale::controller(&clients.watch, scope, fleet.wakes(scope)))
        .unzip();
    let (profile_controller, profile_store) = profiles::controller(&clients.watch);
    let ctx = Arc::new(video_upscale::Context::new(video_upscale::Parts {
        client: clients.request.clone(),
        fleet: fleet.clone(),
        recorder,
        telemetry: telemetry.clone(),
        release: config.release(),
        cluster,
        clusterwide: namespaces.is_empty(),
        jobs: stores,
        profiles: profile_store.clone(),
    }));
    let profile_ctx =
        Arc::new(profiles::Context { client: clients.request.clone(), telemetry: telemetry.clone() });
    let job_loops = async {
        // A job is planned only with claims, reports and profiles at hand: absence of any of them is a decision.
        tokio::select! {
            () = until_ready(fleet, &profile_store, telemetry) => {}
            () = stopped(shutdown.clone()) => return,
        }
        let told = ctx.clone();
        telemetry.ask(move || {
            #[expect(clippy::disallowed_methods, reason = "edge: the moment of a scrape")]
            let now = Timestamp::now();
            let mut standing = standing::of_fleet(&told.fleet.snapshot(now), now);
            told.for_each_job(|job| standing::count_job(&mut standing, job));
            standing
        });
        tracing::info!("ready");
        let all = controllers
            .into_iter()
            .map(|controller| video_upscale::run(controller, ctx.clone(), stopped(shutdown.clone())));
        join_all(all).await;
    };
    let profile_loop = profiles::run(profile_controller, profile_ctx, stopped(shutdown.clone()));
    futures::join!(job_loops, profile_loop);
}

/// Resolves once this process is the one that acts.
async fn elected(mut role: watch::Receiver<Role>) {
    // An error means that the election is over, and with it the process.
    let _gone = role.wait_for(|role| *role == Role::Leader).await;
}

/// Resolves at the shutdown.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the process.
    let _gone = shutdown.wait_for(|stop| *stop).await;
}

async fn until_ready(
    fleet: &FleetHandle,
    profiles: &kube::runtime::reflector::Store<profiles::Guarded>,
    telemetry: &Telemetry,
) {
    loop {
        let mut missing = fleet.missing();
        if profiles.wait_until_ready().now_or_never().is_none() {
            missing.push("profiles");
        }
        telemetry.waits_for(missing.clone());
        if missing.is_empty() {
            return;
        }
        pause(LOOK).await;
    }
}

/// Identity of the cluster: UID of the namespace `kube-system`. Waits for an API server that answers.
async fn cluster(client: &Client) -> String {
    let api: Api<Namespace> = Api::all(client.clone());
    loop {
        match api.get("kube-system").await {
            Ok(namespace) => return namespace.metadata.uid.unwrap_or_default(),
            Err(kube::Error::Api(status)) if status.is_forbidden() => return String::new(),
            Err(error) => tracing::warn!(%error, "waiting for the API server"),
        }
        pause(AGAIN).await;
    }
}

/// Applies the chart's profiles. Waits for the custom resources to be served; a wrong file is only told.
async fn apply_profiles(config: &Config, client: &Client) {
    loop {
        let errors = profiles::apply_folder(client, &config.profiles_dir).await;
        for error in &errors {
            tracing::warn!(%error, "profile not applied");
        }
        if !errors.iter().any(profiles::Error::is_passing) {
            return;
        }
        pause(AGAIN).await;
    }
}

async fn pause(length: Duration) {
    #[expect(clippy::disallowed_methods, reason = "edge: before a retry at the start, and to the end")]
    tokio::time::sleep(length).await;
}
