//! What all our pods have in common: identity, security, volumes, the worker's containers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, ImageVolumeSource, LocalObjectReference,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile,
    SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;

use crate::api::keys::{API_VERSION, JOB, JOB_UID, MANAGED_BY, ROLE, Role};
use crate::api::profile::{Models, UpscaleProfileSpec};
use crate::api::quantity::MIB;
use crate::api::worker::{DESTINATION_MOUNT, SCRATCH_MOUNT, SOURCE_MOUNT};
use crate::fleet::claim::JobKey;

/// How the claimed GPU is named to the container runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VisibleDevices {
    /// Its plain UUID.
    #[default]
    Uuid,
    /// Its qualified CDI name, `nvidia.com/gpu=<UUID>`.
    Cdi,
}

/// Pull policy of the worker's image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only if it is not there.
    #[default]
    IfNotPresent,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

/// What the release says of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Name of the release.
    pub name: String,
    /// Image of the worker.
    pub worker_image: String,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
    /// Runtime class of pods with a GPU; `None`: the cluster's default.
    pub runtime_class: Option<String>,
    /// How the GPU is named.
    pub visible_devices: VisibleDevices,
    /// User id of our containers; `None`: the platform chooses.
    pub user: Option<i64>,
    /// Group id of our containers; `None`: the platform chooses.
    pub group: Option<i64>,
    /// Group that the volumes belong to; `None`: the platform chooses.
    pub fs_group: Option<i64>,
}

/// What pods need to know of their job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFacts {
    /// Identity; becomes owner and labels.
    pub key: JobKey,
    /// Claim of the source, in the job's namespace.
    pub source_claim: String,
    /// Claim of the destination; may be the same.
    pub destination_claim: String,
}

/// Thousandths of a processor that each container requests; none is limited, so that idle processors are used.
pub(super) const CPU_MILLIS: u64 = 100;
/// Logs and the writable layer, beside the scratch volume.
const EPHEMERAL_BASE: u64 = 256 * MIB;

/// Name, labels and owner of a pod.
pub(super) fn metadata(release: &Release, job: &JobFacts, role: Role, name: String) -> ObjectMeta {
    let labels = [
        ("app.kubernetes.io/name", "video-upscale"),
        ("app.kubernetes.io/instance", &release.name),
        ("app.kubernetes.io/component", role.as_str()),
        ("app.kubernetes.io/managed-by", MANAGED_BY),
        (JOB, &job.key.name),
        (JOB_UID, &job.key.uid),
        (ROLE, role.as_str()),
    ];
    ObjectMeta {
        name: Some(name),
        namespace: Some(job.key.namespace.clone()),
        labels: Some(strings(labels)),
        owner_references: Some(vec![OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: "VideoUpscale".to_owned(),
            name: job.key.name.clone(),
            uid: job.key.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

pub(super) fn strings<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What the specs of all our pods say; containers and volumes are added by the caller.
pub(super) fn pod_spec(release: &Release, spec: &UpscaleProfileSpec) -> PodSpec {
    let secret = |name: &String| LocalObjectReference { name: name.clone() };
    let secrets: Vec<_> = spec.engine.pull_secrets.iter().map(secret).collect();
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        share_process_namespace: Some(true),
        termination_grace_period_seconds: Some(30),
        priority_class_name: spec.engine.priority_class_name.clone(),
        image_pull_secrets: (!secrets.is_empty()).then_some(secrets),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: release.user,
            run_as_group: release.group,
            fs_group: release.fs_group,
            fs_group_change_policy: release.fs_group.map(|_| "OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// The strictest that Pod Security knows, and a read-only root.
pub(super) fn restricted(user: Option<i64>, group: Option<i64>) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        read_only_root_filesystem: Some(true),
        run_as_user: user,
        run_as_group: group,
        ..SecurityContext::default()
    }
}

/// Memory and ephemeral storage as request and limit, a little processor time as request.
pub(super) fn resources(memory_bytes: u64, ephemeral_bytes: u64) -> ResourceRequirements {
    let bytes = |bytes: u64| Quantity(bytes.to_string());
    let limits = BTreeMap::from([
        ("memory".to_owned(), bytes(memory_bytes)),
        ("ephemeral-storage".to_owned(), bytes(ephemeral_bytes)),
    ]);
    let mut requests = limits.clone();
    requests.insert("cpu".to_owned(), Quantity(format!("{CPU_MILLIS}m")));
    ResourceRequirements { claims: None, limits: Some(limits), requests: Some(requests) }
}

/// Ephemeral storage of a pod with that much scratch space.
pub(super) fn ephemeral_bytes(scratch_bytes: u64) -> u64 {
    scratch_bytes.saturating_add(EPHEMERAL_BASE)
}

/// A container of the worker: one subcommand, its task as one JSON argument. `None` if the task cannot be written.
pub(super) fn worker(
    release: &Release,
    subcommand: &str,
    task: &impl Serialize,
    mounts: Vec<VolumeMount>,
    resources: ResourceRequirements,
) -> Option<Container> {
    Some(Container {
        name: subcommand.to_owned(),
        image: Some(release.worker_image.clone()),
        image_pull_policy: Some(release.pull_policy.as_str().to_owned()),
        command: Some(vec!["upscale-worker".to_owned()]),
        args: Some(vec![
            subcommand.to_owned(),
            "--task".to_owned(),
            literal(&serde_json::to_string(task).ok()?),
        ]),
        env: Some(vec![variable("TMPDIR", SCRATCH_MOUNT)]),
        resources: Some(resources),
        security_context: Some(restricted(None, None)),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    })
}

/// Text that Kubernetes hands on as it is: it expands `$(NAME)` in commands, arguments and environment, and reads `$$`
/// as one `$`.
pub(super) fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

pub(super) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

const SOURCE_VOLUME: &str = "source";
const DESTINATION_VOLUME: &str = "destination";
const SCRATCH_VOLUME: &str = "scratch";
const MODELS_VOLUME: &str = "models";

/// The volumes of the job's claims, one if they are the same, and scratch space.
pub(super) fn volumes(job: &JobFacts, scratch_bytes: u64) -> Vec<Volume> {
    let mut volumes = vec![claim(DESTINATION_VOLUME, &job.destination_claim, None)];
    if job.source_claim != job.destination_claim {
        volumes.push(claim(SOURCE_VOLUME, &job.source_claim, None));
    }
    volumes.push(Volume {
        name: SCRATCH_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(scratch_bytes.to_string())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    });
    volumes
}

fn claim(name: &str, claim: &str, read_only: Option<bool>) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            read_only,
        }),
        ..Volume::default()
    }
}

/// The volume of the models.
pub(super) fn models_volume(models: &Models) -> Option<Volume> {
    if let Some(name) = &models.claim {
        return Some(claim(MODELS_VOLUME, name, Some(true)));
    }
    let reference = models.image.clone()?;
    let image = ImageVolumeSource { pull_policy: None, reference: Some(reference) };
    Some(Volume { name: MODELS_VOLUME.to_owned(), image: Some(image), ..Volume::default() })
}

/// Mounts of the worker: source read-only, destination, scratch.
pub(super) fn worker_mounts(job: &JobFacts) -> Vec<VolumeMount> {
    let same = job.source_claim == job.destination_claim;
    let source = if same { DESTINATION_VOLUME } else { SOURCE_VOLUME };
    vec![
        VolumeMount { read_only: Some(true), ..mount(source, SOURCE_MOUNT) },
        mount(DESTINATION_VOLUME, DESTINATION_MOUNT),
        mount(SCRATCH_VOLUME, SCRATCH_MOUNT),
    ]
}

/// Mounts of the engine: scratch, of which a folder is its `/tmp`, and the models read-only; nothing else.
pub(super) fn engine_mounts(models: Option<&Models>) -> Vec<VolumeMount> {
    let mut mounts = vec![
        mount(SCRATCH_VOLUME, SCRATCH_MOUNT),
        VolumeMount { sub_path: Some("tmp".to_owned()), ..mount(SCRATCH_VOLUME, "/tmp") },
    ];
    if let Some(models) = models {
        mounts.push(VolumeMount { read_only: Some(true), ..mount(MODELS_VOLUME, &models.path) });
    }
    mounts
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}
