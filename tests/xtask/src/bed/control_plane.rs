//! etcd, API server, controller manager and scheduler, on the host's end of the bridge.

use std::time::Duration;

use anyhow::Result;

use super::Bed;
use super::daemon::Daemon;
use super::grade::Grade;
use super::layout::Addresses;
use super::pki::{Authority, TokenKey};
use crate::command::Run;

/// Starts the control plane and waits until the API server is ready.
///
/// # Errors
/// When a process does not start or the API server is not ready within 60 s.
pub fn start(bed: &mut Bed, authority: &Authority) -> Result<()> {
    let addresses = bed.addresses();
    let server = addresses.api_server();
    let admin = authority.client("admin", "admin", Some("system:masters"))?;
    authority.kubeconfig(&bed.layout.kubeconfig(), &server, &admin)?;
    bed.start(etcd(bed, addresses)?)?;
    let tokens = authority.token_key()?;
    bed.start(api_server(bed, authority, &tokens, addresses)?)?;
    // Ready includes the roles that the others need from their first call on.
    let (kubectl, config) = (bed.tools.path("kubectl")?, bed.kubeconfig());
    bed.wait("the API server to be ready", Duration::from_secs(60), || {
        let ready = Run::new(&kubectl).env("KUBECONFIG", &config).args(["get", "--raw", "/readyz"]);
        Ok(ready.succeeds().then_some(()))
    })?;
    for (program, port) in [("kube-controller-manager", 10257), ("kube-scheduler", 10259)] {
        let pair = authority.client(program, &format!("system:{program}"), None)?;
        let config = bed.layout.pki().join(format!("{program}.kubeconfig"));
        authority.kubeconfig(&config, &server, &pair)?;
        let mut daemon = Daemon::new(program, &bed.tools.path(program)?)
            .flag("kubeconfig", &config)
            .flag("authentication-kubeconfig", &config)
            .flag("authorization-kubeconfig", &config)
            .flag("bind-address", addresses.inner())
            .flag("secure-port", port.to_string())
            .flag("leader-elect", "false");
        if program == "kube-controller-manager" {
            daemon = daemon
                .flag("service-account-private-key-file", &tokens.private)
                .flag("root-ca-file", authority.certificate())
                .flag("use-service-account-credentials", "true");
        }
        bed.start(daemon)?;
    }
    Ok(())
}

fn etcd(bed: &Bed, addresses: Addresses) -> Result<Daemon> {
    let clients = addresses.etcd();
    let peers = format!("http://{}:2380", addresses.inner());
    Ok(Daemon::new("etcd", &bed.tools.path("etcd")?)
        .flag("data-dir", bed.layout.state.join("etcd"))
        .flag("listen-client-urls", &clients)
        .flag("advertise-client-urls", &clients)
        .flag("listen-peer-urls", &peers)
        .flag("initial-advertise-peer-urls", &peers)
        .flag("initial-cluster", format!("default={peers}"))
        // A bed that loses power is made anew.
        .flag("unsafe-no-fsync", "true")
        .flag("log-level", "warn"))
}

fn api_server(bed: &Bed, authority: &Authority, tokens: &TokenKey, addresses: Addresses) -> Result<Daemon> {
    let host = addresses.host();
    let names =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(str::to_owned);
    let names: Vec<String> = names.into_iter().chain([host.clone(), addresses.api_service()]).collect();
    let serving = authority.server("kube-apiserver", &names)?;
    let kubelet =
        authority.client("kube-apiserver-kubelet-client", "kube-apiserver", Some("system:masters"))?;
    let daemon = Daemon::new("kube-apiserver", &bed.tools.path("kube-apiserver")?);
    let audited =
        bed.audit_flags()?.into_iter().fold(daemon, |daemon, (name, value)| daemon.flag(name, value));
    let audited = match addresses.grade {
        Grade::Full => audited,
        // No Service can point at a loopback address.
        Grade::Plain => audited.flag("endpoint-reconciler-type", "none"),
    };
    Ok(audited
        .flag("etcd-servers", addresses.etcd())
        .flag("bind-address", &host)
        .flag("advertise-address", &host)
        .flag("secure-port", "6443")
        .flag("service-cluster-ip-range", addresses.services())
        .flag("tls-cert-file", serving.certificate)
        .flag("tls-private-key-file", serving.key)
        .flag("client-ca-file", authority.certificate())
        .flag("kubelet-certificate-authority", authority.certificate())
        .flag("kubelet-client-certificate", kubelet.certificate)
        .flag("kubelet-client-key", kubelet.key)
        .flag("kubelet-preferred-address-types", "InternalIP")
        .flag("service-account-issuer", "https://kubernetes.default.svc")
        .flag("service-account-key-file", &tokens.public)
        .flag("service-account-signing-key-file", &tokens.private)
        .flag("authorization-mode", "Node,RBAC")
        .flag("enable-admission-plugins", "NodeRestriction")
        .flag("allow-privileged", "true"))
}
