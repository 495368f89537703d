//! The pod of one attempt: `prepare`, the engine once per piece, `finish`. It goes to the claimed GPU's node and sees
//! that GPU; `finish` sees none, as encoding needs none and the runtime class holds for the whole pod.

use k8s_openapi::api::core::v1::{
    Affinity, Container, EnvVar, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
    PodSpec,
};

use super::shared::{
    CPU_MILLIS, engine_mounts, ephemeral_bytes, literal, metadata, models_volume, pod_spec, resources,
    restricted, strings, variable, volumes, worker, worker_mounts,
};
use super::{JobFacts, Release, VisibleDevices};
use crate::api::keys::{ATTEMPT, ATTEMPT_FLAGS, GPU_INDEX, GPU_UUID, NEED, Role, SEEN_BEFORE, SEGMENT, STEP};
use crate::api::profile::{Capability, Engine, UpscaleProfileSpec};
use crate::api::quantity::MIB;
use crate::api::worker::{FinishTask, PrepareTask};
use crate::controllers::video_upscale::ladder::Flags;
use crate::fleet::claim::{AttemptId, Grant};
use crate::fleet::demand::PodRequests;
use crate::profile::{
    HostFlags, Lengths, Measured, Picture, Piece, deadline_seconds, host_limit_bytes, longest_piece, render,
    scratch_bytes,
};

/// Everything that the pod of an attempt is built from.
#[derive(Clone, Copy, Debug)]
pub struct SegmentPod<'a> {
    /// The release.
    pub release: &'a Release,
    /// The job.
    pub job: &'a JobFacts,
    /// Which attempt.
    pub attempt: &'a AttemptId,
    /// What was claimed for it.
    pub grant: &'a Grant,
    /// The profile as the job began with it.
    pub spec: &'a UpscaleProfileSpec,
    /// The film's picture.
    pub picture: &'a Picture,
    /// How long the segments are.
    pub lengths: Lengths,
    /// Flags of the attempt.
    pub flags: Flags,
    /// Times as measured so far.
    pub measured: Measured,
    /// Task of `prepare`; its `pieces` is the number of engine containers.
    pub prepare: &'a PrepareTask,
    /// Task of `finish`.
    pub finish: &'a FinishTask,
}

/// Builds the pod. `None` if the step is not offered for the picture, or a figure overflows.
pub fn segment_pod(of: &SegmentPod<'_>) -> Option<Pod> {
    let pieces = of.prepare.pieces.max(1);
    let piece_frames = longest_piece(of.spec, of.lengths, pieces, of.flags.least_context)?;
    let sizes = Sizes::of(of.spec, of.grant.step, of.picture, of.lengths, pieces, of.flags)?;
    let mut prepare =
        worker(of.release, "prepare", of.prepare, worker_mounts(of.job), sizes.resources(sizes.prepare))?;
    prepare.env.get_or_insert_default().extend(gpu_variables(of, "utility"));
    let mut init = vec![prepare];
    for number in 0..pieces {
        let piece = Piece { number, frames: piece_frames, fragmentation_env: of.flags.fragmentation_env };
        init.push(engine(of, piece, pieces, &sizes)?);
    }
    let mut finish =
        worker(of.release, "finish", of.finish, worker_mounts(of.job), sizes.resources(sizes.finish))?;
    finish.env.get_or_insert_default().push(variable("NVIDIA_VISIBLE_DEVICES", "void"));

    let mut metadata = metadata(of.release, of.job, Role::Segment, of.attempt.pod_name());
    metadata.labels.get_or_insert_default().extend(strings([
        (SEGMENT, &of.attempt.segment.to_string()),
        (ATTEMPT, &of.attempt.attempt.to_string()),
        (GPU_INDEX, &of.grant.gpu_index.to_string()),
    ]));
    metadata.annotations = Some(strings([
        (GPU_UUID, &of.grant.gpu),
        (STEP, &of.grant.step.to_string()),
        (NEED, &of.grant.need_bytes.to_string()),
        (SEEN_BEFORE, &serde_json::to_string(&of.grant.seen).ok()?),
        (ATTEMPT_FLAGS, &format!("{pieces}/{}", of.flags)),
    ]));
    let engine = &of.spec.engine;
    let mut volumes = volumes(of.job, sizes.scratch);
    volumes.extend(engine.models.as_ref().and_then(models_volume));
    let deadline = deadline_seconds(of.spec, of.picture, piece_frames, pieces, of.measured);
    let spec = PodSpec {
        affinity: Some(on_node(&of.grant.node)),
        init_containers: Some(init),
        containers: vec![finish],
        volumes: Some(volumes),
        runtime_class_name: engine.runtime_class_name.clone().or_else(|| of.release.runtime_class.clone()),
        tolerations: (!engine.tolerations.is_empty()).then(|| engine.tolerations.clone()),
        active_deadline_seconds: Some(deadline),
        ..pod_spec(of.release, of.spec)
    };
    Some(Pod { metadata, spec: Some(spec), status: None })
}

/// What such a pod requests of its node by the scheduler's reckoning: the largest of its containers, as they run one
/// after the other. `None` if a figure overflows.
pub fn segment_requests(
    spec: &UpscaleProfileSpec,
    step: u32,
    picture: &Picture,
    lengths: Lengths,
    pieces: u32,
    flags: Flags,
) -> Option<PodRequests> {
    let sizes = Sizes::of(spec, step, picture, lengths, pieces, flags)?;
    Some(PodRequests {
        cpu_millis: CPU_MILLIS,
        memory_bytes: sizes.prepare.max(sizes.engine).max(sizes.finish),
        ephemeral_bytes: ephemeral_bytes(sizes.scratch),
    })
}

/// Bytes of memory by container, and of scratch space.
struct Sizes {
    prepare: u64,
    engine: u64,
    finish: u64,
    scratch: u64,
}

impl Sizes {
    /// Pieces do not lower the engine's limit: they are the answer to a limit that was too low.
    fn of(
        spec: &UpscaleProfileSpec,
        step: u32,
        picture: &Picture,
        lengths: Lengths,
        pieces: u32,
        flags: Flags,
    ) -> Option<Self> {
        let host = HostFlags { more_memory: flags.more_memory };
        let frames = longest_piece(spec, lengths, pieces, flags.least_context)?;
        let all_frames = frames.checked_mul(pieces.max(1))?;
        Some(Self {
            prepare: worker_bytes(256 * MIB, 70, picture, host)?,
            engine: host_limit_bytes(spec, step, picture, lengths.read, host)?,
            finish: worker_bytes(512 * MIB, 220, picture, host)?,
            scratch: scratch_bytes(spec, picture, all_frames)?,
        })
    }

    fn resources(&self, memory_bytes: u64) -> k8s_openapi::api::core::v1::ResourceRequirements {
        resources(memory_bytes, ephemeral_bytes(self.scratch))
    }
}

/// Cutting takes about 70 bytes per output pixel, encoding with four threads about 220; independent of the film's
/// length. Measured with ffmpeg 7.1, x264 medium, 1080p and 4K.
fn worker_bytes(base: u64, per_pixel: u128, picture: &Picture, host: HostFlags) -> Option<u64> {
    let pixels = u64::try_from(picture.output_pixels().checked_mul(per_pixel)?).ok()?;
    let bytes = base.checked_add(pixels)?;
    if host.more_memory { bytes.checked_mul(3).map(|bytes| bytes / 2) } else { Some(bytes) }
}

fn engine(of: &SegmentPod<'_>, piece: Piece, pieces: u32, sizes: &Sizes) -> Option<Container> {
    let engine = &of.spec.engine;
    let rendered = render(of.spec, of.grant.step, of.picture, piece)?;
    let literals = |texts: Vec<String>| Some(texts.iter().map(|text| literal(text)).collect());
    let mut env: Vec<EnvVar> =
        rendered.env.iter().map(|(name, value)| variable(name, &literal(value))).collect();
    env.extend(gpu_variables(of, &capabilities(engine)));
    let name = if pieces == 1 { "upscale".to_owned() } else { format!("upscale-{}", piece.number) };
    // Where the platform chooses our user, it chooses the engine's too.
    let user = of.release.user.map(|_| engine.user);
    let group = of.release.group.map(|_| engine.group);
    Some(Container {
        name,
        image: Some(engine.image.clone()),
        command: literals(rendered.command),
        args: literals(rendered.args),
        env: Some(env),
        resources: Some(sizes.resources(sizes.engine)),
        security_context: Some(restricted(user, group)),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(engine_mounts(engine.models.as_ref())),
        ..Container::default()
    })
}

fn capabilities(engine: &Engine) -> String {
    let mut words = vec!["utility"];
    for (capability, word) in [(Capability::Compute, "compute"), (Capability::Graphics, "graphics")] {
        if engine.capabilities.contains(&capability) {
            words.push(word);
        }
    }
    words.join(",")
}

fn gpu_variables(of: &SegmentPod<'_>, capabilities: &str) -> [EnvVar; 2] {
    let devices = match of.release.visible_devices {
        VisibleDevices::Uuid => of.grant.gpu.clone(),
        VisibleDevices::Cdi => format!("nvidia.com/gpu={}", of.grant.gpu),
    };
    [variable("NVIDIA_VISIBLE_DEVICES", &devices), variable("NVIDIA_DRIVER_CAPABILITIES", capabilities)]
}

/// Binds by the node's name through the scheduler, so that taints, room and volumes are still looked at.
fn on_node(node: &str) -> Affinity {
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
        match_expressions: None,
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}
