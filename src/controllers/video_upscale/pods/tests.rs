//! Whole objects, as the API server gets them.

use k8s_openapi::api::core::v1::{Container, Pod, Toleration};
use serde_json::Value;

use super::*;
use crate::api::profile::UpscaleProfileSpec;
use crate::api::quantity::MIB;
use crate::api::worker::{
    Deinterlace, Encode, EncodePreset, FinishTask, JobRef, MergeTask, PrepareTask, ProbeTask, PromisedGpu,
    Source, VERSION, Verify,
};
use crate::controllers::video_upscale::ladder::Flags;
use crate::fleet::claim::{AttemptId, Grant, JobKey, SeenBefore};
use crate::profile::testdata::{flashvsr, realesrgan};
use crate::profile::{Lengths, Measured, Picture, engine_input, engine_output};

const LENGTHS: Lengths = Lengths { read: 101, owned: 73 };

fn key() -> JobKey {
    JobKey {
        namespace: "media".into(),
        name: "film".into(),
        uid: "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d".into(),
    }
}

fn job_ref() -> JobRef {
    let JobKey { namespace, name, uid } = key();
    JobRef { cluster: "cluster-1".into(), namespace, name, uid }
}

fn release() -> Release {
    Release {
        name: "vu".into(),
        worker_image: "registry.example/worker:1".into(),
        pull_policy: PullPolicy::IfNotPresent,
        runtime_class: Some("nvidia".into()),
        visible_devices: VisibleDevices::Uuid,
        user: Some(65_532),
        group: Some(65_532),
        fs_group: Some(65_532),
    }
}

fn job(source: &str, destination: &str) -> JobFacts {
    JobFacts { key: key(), source_claim: source.into(), destination_claim: destination.into() }
}

fn source() -> Source {
    Source {
        path: "in/costs $(HOME) a$.mkv".into(),
        video_stream: None,
        deinterlace: Deinterlace::Off,
        drop_alpha: false,
        strict: false,
    }
}

fn grant(step: u32) -> Grant {
    Grant {
        gpu: "GPU-5a1c0f3e-0000-4000-8000-000000000002".into(),
        gpu_index: 2,
        gpu_model: "Model A".into(),
        node: "node-a".into(),
        step,
        need_bytes: 14_000_000_000,
        seen: SeenBefore { free: 20, available: 21, foreign: 3, total: 24, seq: 9, inst: "0badcafe".into() },
    }
}

fn segment(
    spec: &UpscaleProfileSpec,
    release: &Release,
    job: &JobFacts,
    pieces: u32,
    flags: Flags,
    step: u32,
) -> Pod {
    let prepare = PrepareTask {
        v: VERSION,
        job: job_ref(),
        source: source(),
        round: 0,
        segment: 41,
        pieces,
        scale: 2,
        engine: engine_input(spec, flags.least_context),
        output: engine_output(spec),
        gpu: PromisedGpu { uuid: grant(step).gpu, need_bytes: 14_000_000_000 },
    };
    let finish = FinishTask {
        v: VERSION,
        job: job_ref(),
        round: 0,
        segment: 41,
        attempt: 3,
        step,
        pieces,
        scale: 2,
        engine: engine_input(spec, flags.least_context),
        output: engine_output(spec),
        encode: Encode { codec: None, quality: 16, preset: EncodePreset::Medium },
    };
    let engine = engine_input(spec, false);
    let context = engine.context_before.saturating_add(engine.context_after);
    segment_pod(&SegmentPod {
        release,
        job,
        attempt: &AttemptId { job: key(), segment: 41, attempt: 3 },
        grant: &grant(step),
        spec,
        picture: &Picture::of(spec, 640, 360, 2),
        lengths: Lengths { owned: LENGTHS.read.saturating_sub(context), ..LENGTHS },
        flags,
        measured: Measured::default(),
        prepare: &prepare,
        finish: &finish,
    })
    .unwrap()
}

fn probe_task() -> ProbeTask {
    let spec = flashvsr();
    ProbeTask {
        v: VERSION,
        job: job_ref(),
        source: source(),
        destination: "out/film.mp4".into(),
        overwrite: false,
        scale: Some(2),
        scales: vec![2, 3, 4],
        start_us: None,
        length_us: None,
        engine: engine_input(&spec, false),
        host_memory: spec.host_memory,
        encode: Encode { codec: None, quality: 16, preset: EncodePreset::Medium },
        segment_frames: None,
        gpus: 4,
        start_seconds: 60,
        megapixel_frame_millis: 300,
        host_budget_bytes: 1 << 34,
        live_jobs: vec![key().uid],
    }
}

fn merge_task() -> MergeTask {
    MergeTask {
        v: VERSION,
        job: job_ref(),
        source: source(),
        destination: "out/film.mp4".into(),
        overwrite: false,
        round: 0,
        scale: 2,
        verify: Verify::Auto,
    }
}

#[track_caller]
fn assert_golden(pod: &Pod, golden: &str) {
    let actual = serde_json::to_value(pod).unwrap();
    let expected: Value = serde_json::from_str(golden).unwrap_or_default();
    assert!(actual == expected, "{}", serde_json::to_string_pretty(&actual).unwrap());
}

#[test]
fn a_segment_of_one_piece() {
    let pod = segment(&flashvsr(), &release(), &job("films", "results"), 1, Flags::default(), 3);
    assert_golden(&pod, include_str!("testdata/segment.json"));
}

#[test]
fn a_segment_in_two_pieces_on_a_claim_shared_by_source_and_destination() {
    let mut spec = realesrgan();
    spec.engine.tolerations = vec![Toleration {
        key: Some("gpu".into()),
        operator: Some("Exists".into()),
        ..Toleration::default()
    }];
    spec.engine.pull_secrets = vec!["registry".into()];
    spec.engine.priority_class_name = Some("batch".into());
    spec.engine.runtime_class_name = Some("vulkan".into());
    spec.engine.user = 1000;
    let release = Release { visible_devices: VisibleDevices::Cdi, ..release() };
    let flags = Flags { more_memory: true, last_unknown: true, ..Flags::default() };
    assert_golden(
        &segment(&spec, &release, &job("media", "media"), 2, flags, 1),
        include_str!("testdata/pieces.json"),
    );
}

#[test]
fn a_probe_and_a_merge() {
    let (release, spec, job) = (release(), flashvsr(), job("films", "results"));
    let of = SinglePod { release: &release, job: &job, spec: &spec, attempt: 1 };
    assert_golden(&probe_pod(&of, &probe_task()).unwrap(), include_str!("testdata/probe.json"));
    let merge = merge_pod(&of, &merge_task(), &Picture::of(&spec, 640, 360, 2)).unwrap();
    assert_golden(&merge, include_str!("testdata/merge.json"));
}

fn containers(pod: &Pod) -> Vec<&Container> {
    let spec = pod.spec.as_ref().unwrap();
    spec.init_containers.iter().flatten().chain(&spec.containers).collect()
}

/// What Kubernetes makes of an argument: `$(NAME)` is expanded, `$$` is one `$`.
fn as_kubernetes_hands_it_on(argument: &str) -> String {
    assert!(!argument.replace("$$", "").contains("$("), "{argument} would be expanded");
    argument.replace("$$", "$")
}

#[test]
fn tasks_arrive_as_they_were_whatever_a_path_contains() {
    let pod = segment(&flashvsr(), &release(), &job("films", "results"), 1, Flags::default(), 3);
    let args = containers(&pod)[0].args.as_ref().unwrap();
    let task: PrepareTask = serde_json::from_str(&as_kubernetes_hands_it_on(&args[2])).unwrap();
    assert_eq!((args[0].as_str(), args[1].as_str(), task.source), ("prepare", "--task", source()));
}

#[test]
fn only_prepare_and_the_engine_see_the_gpu() {
    let pod = segment(&flashvsr(), &release(), &job("films", "results"), 4, Flags::default(), 3);
    let visible: Vec<_> = containers(&pod)
        .into_iter()
        .map(|container| {
            let devices =
                container.env.iter().flatten().find(|env| env.name == "NVIDIA_VISIBLE_DEVICES").unwrap();
            (container.name.as_str(), devices.value.as_deref().unwrap() != "void")
        })
        .collect();
    let expected = [
        ("prepare", true),
        ("upscale-0", true),
        ("upscale-1", true),
        ("upscale-2", true),
        ("upscale-3", true),
        ("finish", false),
    ];
    assert_eq!(visible, expected);
}

#[test]
fn the_engine_mounts_scratch_and_models_and_nothing_else() {
    let pod = segment(&flashvsr(), &release(), &job("films", "results"), 1, Flags::default(), 3);
    let mounts: Vec<_> =
        containers(&pod)[1].volume_mounts.iter().flatten().map(|mount| mount.mount_path.as_str()).collect();
    assert_eq!(mounts, ["/scratch", "/tmp", "/models"]);
}

#[test]
fn where_the_platform_chooses_users_none_are_named() {
    let release = Release { user: None, group: None, fs_group: None, ..release() };
    let pod = segment(&flashvsr(), &release, &job("films", "results"), 1, Flags::default(), 3);
    let text = serde_json::to_string(&pod).unwrap();
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert!(!text.contains(field), "{field}");
    }
    assert!(text.contains("runAsNonRoot"));
}

#[test]
fn requests_are_what_the_scheduler_reckons() {
    let spec = flashvsr();
    let picture = Picture::of(&spec, 640, 360, 2);
    let requests = segment_requests(&spec, 3, &picture, LENGTHS, 1, Flags::default()).unwrap();
    let pod = segment(&spec, &release(), &job("films", "results"), 1, Flags::default(), 3);
    let of = |name: &str| {
        let request = |container: &&Container| {
            container.resources.as_ref().unwrap().requests.as_ref().unwrap()[name].0.parse::<u64>().unwrap()
        };
        containers(&pod).iter().map(request).max().unwrap()
    };
    assert_eq!((requests.memory_bytes, requests.ephemeral_bytes), (of("memory"), of("ephemeral-storage")));
    assert_eq!(requests.cpu_millis, 100);
    assert!(requests.memory_bytes > 8192 * MIB);
}

#[test]
fn a_step_that_the_picture_cannot_have_has_no_pod() {
    let spec = flashvsr();
    assert_eq!(
        segment_requests(&spec, 99, &Picture::of(&spec, 640, 360, 2), LENGTHS, 1, Flags::default()),
        None
    );
}
