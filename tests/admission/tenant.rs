//! What a tenant can reach through a VideoUpscale: the API server refuses the spec, or the pods made of it differ from
//! those of a harmless job in nothing but the names of claims and the one argument that carries the task.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use video_upscale::api::profile::UpscaleProfileSpec;
use video_upscale::api::video_upscale::VideoUpscale;
use video_upscale::api::worker::{JobRef, MergeTask, ProbeTask, VERSION};
use video_upscale::controllers::video_upscale::job::Job;
use video_upscale::controllers::video_upscale::pods::{
    JobFacts, PullPolicy, Release as Images, SinglePod, VisibleDevices, merge_pod, probe_pod,
};
use video_upscale::fleet::claim::JobKey;
use video_upscale::profile::{Picture, engine_input};

use super::cases::{self, Base};
use super::release::{Release, row};
use super::server::eventually;

/// Name, changes of the smallest job, and words of the refusal; none: it is taken, and its pods are looked at.
type Attack = (&'static str, &'static [(&'static str, &'static str)], Option<&'static str>);

const PATH: &str = "must be relative to the claim";
const CLAIM: &str = "must be the name of a PersistentVolumeClaim";
const UNKNOWN: &str = "unknown field";

const ATTACKS: &[Attack] = &[
    // Out of the claim.
    ("an absolute path", &[("/spec/source/path", r#""/etc/shadow""#)], Some(PATH)),
    ("up and out", &[("/spec/source/path", r#""../../etc/shadow""#)], Some(PATH)),
    ("up in the middle", &[("/spec/source/path", r#""in/../../x""#)], Some(PATH)),
    ("an absolute destination", &[("/spec/destination/path", r#""/scratch/x.mp4""#)], Some(PATH)),
    ("up from the destination", &[("/spec/destination/path", r#""../x.mp4""#)], Some(PATH)),
    (
        "another's unfinished film",
        &[("/spec/destination/path", r#"".upscale/x.mp4""#)],
        Some("must not lie in .upscale"),
    ),
    ("over the source", &[("/spec/destination/path", r#""in/a.mp4""#)], Some("must not be the source")),
    ("a NUL", &[("/spec/source/path", r#""in/a\u0000b""#)], Some(PATH)),
    ("a line break", &[("/spec/source/path", r#""in/a\nb""#)], Some(PATH)),
    ("an escape for terminals", &[("/spec/source/path", r#""in/\u001b[2J""#)], Some(PATH)),
    ("a claim of another namespace", &[("/spec/source/claim/name", r#""other/media""#)], Some(CLAIM)),
    (
        "a namespace beside the claim",
        &[("/spec/source/claim", r#"{"name": "media", "namespace": "kube-system"}"#)],
        Some(UNKNOWN),
    ),
    ("another's claim by path", &[("/spec/destination/claim/name", r#""../media""#)], Some(CLAIM)),
    ("a URL as claim", &[("/spec/source/claim/name", r#""http://169.254.169.254""#)], Some(CLAIM)),
    (
        "a film that is no film type",
        &[("/spec/destination/path", r#""out/a.sh""#)],
        Some("must end with .mp4"),
    ),
    // Fields of a pod.
    ("an image", &[("/spec/image", r#""evil.example/x""#)], Some(UNKNOWN)),
    ("a command", &[("/spec/command", r#"["sh"]"#)], Some(UNKNOWN)),
    ("a pod template", &[("/spec/template", r#"{"spec": {"hostPID": true}}"#)], Some(UNKNOWN)),
    ("a service account", &[("/spec/serviceAccountName", r#""admin""#)], Some(UNKNOWN)),
    ("a node", &[("/spec/nodeName", r#""node-a""#)], Some(UNKNOWN)),
    ("tolerations", &[("/spec/tolerations", r#"[{"operator": "Exists"}]"#)], Some(UNKNOWN)),
    ("a priority", &[("/spec/priorityClassName", r#""system-node-critical""#)], Some(UNKNOWN)),
    ("a runtime class", &[("/spec/runtimeClassName", r#""runc""#)], Some(UNKNOWN)),
    ("environment", &[("/spec/env", r#"[{"name": "LD_PRELOAD", "value": "x"}]"#)], Some(UNKNOWN)),
    ("volumes", &[("/spec/volumes", r#"[{"name": "h", "hostPath": {"path": "/"}}]"#)], Some(UNKNOWN)),
    ("a security context", &[("/spec/securityContext", r#"{"runAsUser": 0}"#)], Some(UNKNOWN)),
    ("options of the encoder", &[("/spec/encode", r#"{"options": "-f lavfi"}"#)], Some(UNKNOWN)),
    ("a filter", &[("/spec/input", r#"{"filter": "movie=/etc/passwd"}"#)], Some(UNKNOWN)),
    ("a codec of its own", &[("/spec/encode", r#"{"codec": "H264 -y"}"#)], Some("supported values")),
    // Too much.
    ("a million segments at once", &[("/spec/parallelism", "1000000")], Some("less than or equal to 1024")),
    ("attempts without end", &[("/spec/attemptsPerSegment", "100000")], Some("less than or equal to 20")),
    ("no parallelism", &[("/spec/parallelism", "0")], Some("greater than or equal to 1")),
    (
        "a negative patience",
        &[("/spec/degradation", r#"{"patienceSeconds": -1}"#)],
        Some("greater than or equal to 0"),
    ),
    (
        "segments of one frame",
        &[("/spec/segmentation", r#"{"frames": 1}"#)],
        Some("greater than or equal to 16"),
    ),
    ("a huge scale", &[("/spec/scale", "1000000000000")], Some("spec.scale")),
    (
        "a negative headroom",
        &[("/spec/gpu", r#"{"headroom": "-64Gi"}"#)],
        Some("must be 0 or a whole number"),
    ),
    ("a long range", &[("/spec/range", r#"{"length": "99999h"}"#)], Some("must be a duration")),
    ("a label that is none", &[("/spec/gpu", r#"{"nodeSelector": {"a b": "c"}}"#)], Some("must be labels")),
    (
        "a name that is no pod's",
        &[("/metadata/name", r#""a.b""#)],
        Some("at most 50 characters without dots"),
    ),
    // Taken: odd, and harmless.
    ("a variable of Kubernetes", &[("/spec/source/path", r#""in/$(POD_IP)$$(HOME).mp4""#)], None),
    ("a variable of the shell", &[("/spec/source/path", r#""in/$HOME`id`;rm -rf.mp4""#)], None),
    ("an option of ffmpeg", &[("/spec/source/path", r#""-i.mp4""#)], None),
    ("a long option", &[("/spec/destination/path", r#""--help.mp4""#)], None),
    ("a protocol of ffmpeg", &[("/spec/source/path", r#""concat:a.mp4|b.mp4""#)], None),
    ("a URL", &[("/spec/source/path", r#""http:169.254.169.254""#)], None),
    ("a pattern", &[("/spec/source/path", r#""in/%d*.mp4""#)], None),
    ("JSON that closes ours", &[("/spec/source/path", r#""in/\"},\"v\":9,\"x\":{\".mp4""#)], None),
    ("a token of profiles", &[("/spec/destination/path", r#""out/{models}.mp4""#)], None),
    ("right to left", &[("/spec/destination/path", r#""out/\u202e4pm.mp4""#)], None),
    (
        "every GPU's product",
        &[("/spec/gpu", r#"{"products": [""], "foreignProcesses": "Tolerate"}"#)],
        Some("at least 1 chars long"),
    ),
    (
        "labels that claim to be ours",
        &[("/metadata/labels", r#"{"upscale.video/job-uid": "x", "upscale.video/role": "segment"}"#)],
        None,
    ),
    (
        "a foreign owner's annotation",
        &[("/metadata/annotations", r#"{"upscale.video/gpu-uuid": "all"}"#)],
        None,
    ),
    ("another's claims by name", &[("/spec/source/claim/name", r#""kube-system.media""#)], None),
    ("a profile that is not there", &[("/spec/profile", r#""not-there""#)], None),
];

/// Places in which the pods of two jobs may differ.
const MAY_DIFFER: [&str; 2] = ["/spec/containers/0/args/2", "/persistentVolumeClaim/claimName"];

#[tokio::test]
async fn a_spec_reaches_nothing_but_claims_and_one_argument() {
    let Some(mut release) = Release::install(&[]).await else { return };
    let rules = json!([{"apiGroups": ["upscale.video"], "resources": ["videoupscales"], "verbs": ["*"]}]);
    let tenant = release.tenant("tenant", rules).await;
    let controller = release.part("controller", None).await;
    let mut plain = cases::base(Base::Job);
    plain["metadata"]["namespace"] = json!(release.tenants);
    eventually("the tenant has its rights", async || {
        release.server.dry_run_as(&tenant, &plain).await.is_ok()
    })
    .await;
    let stored = release.server.dry_run_as(&tenant, &plain).await.unwrap();
    let harmless = pods(&release, stored.data, &stored.metadata.name.unwrap());

    let mut taken = 0;
    for (about, changes, words) in ATTACKS {
        let mut job = plain.clone();
        for (pointer, value) in *changes {
            cases::put(&mut job, pointer, Some(value));
        }
        let outcome = release.server.dry_run_as(&tenant, &job).await;
        let Some(words) = words else {
            let stored = outcome.unwrap_or_else(|said| panic!("{about}: {said}"));
            let made = pods(&release, stored.data, &stored.metadata.name.unwrap());
            for (pod, before) in made.iter().zip(&harmless) {
                let odd = differences(pod, before);
                let odd: Vec<_> =
                    odd.iter().filter(|at| !MAY_DIFFER.iter().any(|end| at.ends_with(end))).collect();
                assert!(odd.is_empty(), "{about} changes {odd:?}");
                assert_eq!(expanded(pod), Vec::<String>::new(), "{about}: Kubernetes would expand it");
                release
                    .server
                    .dry_run_as(&controller, pod)
                    .await
                    .unwrap_or_else(|said| panic!("{about}: {said}"));
            }
            println!("{:<10} | {about:<52} | taken; its pods are as any other's", "tenant");
            taken += 1;
            continue;
        };
        let outcome = outcome.map(drop);
        row("tenant", about, &outcome);
        let refused = outcome.expect_err(about);
        assert!(refused.contains(words), "{about}: {refused}");
    }
    println!("{} specs: {} refused, {taken} taken with harmless pods", ATTACKS.len(), ATTACKS.len() - taken);
    assert!(ATTACKS.len() >= 40 && taken >= 10);
    release.remove().await;
}

/// Probe and merge of a job as stored: all of a spec that is text stands in their tasks.
fn pods(release: &Release, mut stored: Value, name: &str) -> [Value; 2] {
    stored["metadata"] = json!({"name": name});
    let job: VideoUpscale = serde_json::from_value(stored).unwrap();
    let job = Job::read(&job.spec).unwrap();
    let spec: UpscaleProfileSpec =
        serde_json::from_value(cases::base(Base::Profile)["spec"].clone()).unwrap();
    let key =
        JobKey { namespace: release.tenants.clone(), name: "holiday".into(), uid: "9b1deb4d-3b7d".into() };
    let facts = JobFacts {
        key: key.clone(),
        source_claim: job.source_claim.clone(),
        destination_claim: job.destination_claim.clone(),
    };
    let JobKey { namespace, name, uid } = key;
    let job_ref = JobRef { cluster: "cluster".into(), namespace, name, uid };
    let images = Images {
        name: release.name.clone(),
        worker_image: "registry.example/worker:1".into(),
        pull_policy: PullPolicy::IfNotPresent,
        runtime_class: Some(release.name.clone()),
        visible_devices: VisibleDevices::Uuid,
        user: Some(65_532),
        group: Some(65_532),
        fs_group: Some(65_532),
    };
    let of = SinglePod { release: &images, job: &facts, spec: &spec, attempt: 0 };
    let probe = ProbeTask {
        v: VERSION,
        job: job_ref.clone(),
        source: job.source.clone(),
        destination: job.destination.clone(),
        overwrite: job.overwrite,
        scale: job.scale,
        scales: vec![2, 3, 4],
        start_us: job.start_us,
        length_us: job.length_us,
        engine: engine_input(&spec, false),
        host_memory: spec.host_memory,
        encode: job.encode,
        segment_frames: job.segment_frames,
        gpus: job.parallelism,
        start_seconds: 0,
        megapixel_frame_millis: 0,
        host_budget_bytes: 1 << 34,
        live_jobs: Vec::new(),
    };
    let merge = MergeTask {
        v: VERSION,
        job: job_ref,
        source: job.source.clone(),
        destination: job.destination.clone(),
        overwrite: job.overwrite,
        round: 0,
        scale: 2,
        verify: job.verify,
    };
    let merge = merge_pod(&of, &merge, &Picture::of(&spec, 640, 360, 2)).unwrap();
    [probe_pod(&of, &probe).unwrap(), merge].map(|pod| serde_json::to_value(pod).unwrap())
}

/// Where two values differ; volumes are compared by name.
fn differences(a: &Value, b: &Value) -> BTreeSet<String> {
    fn walk(at: &str, a: &Value, b: &Value, found: &mut BTreeSet<String>) {
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                for key in a.keys().chain(b.keys()) {
                    let null = Value::Null;
                    walk(
                        &format!("{at}/{key}"),
                        a.get(key).unwrap_or(&null),
                        b.get(key).unwrap_or(&null),
                        found,
                    );
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    walk(&format!("{at}/{index}"), a, b, found);
                }
            }
            _ if a != b => {
                found.insert(at.to_owned());
            }
            _ => {}
        }
    }
    // A second claim brings a volume and its mount: both are of the allowed kind, so only the rest is compared.
    let mut found = BTreeSet::new();
    let (mut a, mut b) = (a.clone(), b.clone());
    for pod in [&mut a, &mut b] {
        let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
        for volume in volumes.iter() {
            let claims = volume["persistentVolumeClaim"].is_object();
            assert!(claims || volume["name"] == "scratch", "a volume of another kind: {volume}");
        }
        volumes.retain(|volume| volume["name"] != "source");
        pod["spec"]["containers"][0]["volumeMounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["mountPath"] != "/source");
    }
    walk("", &a, &b, &mut found);
    found
}

/// Arguments in which Kubernetes would put the value of a variable.
fn expanded(pod: &Value) -> Vec<String> {
    let args = pod["spec"]["containers"][0]["args"].as_array().unwrap();
    let open = |text: &str| text.replace("$$", "").contains("$(");
    args.iter().filter_map(Value::as_str).filter(|text| open(text)).map(str::to_owned).collect()
}
