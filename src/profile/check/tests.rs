//! Profiles that are right, and one fault at a time.

use super::*;
use crate::profile::testdata::{flashvsr, realesrgan, seedvr2};

#[test]
fn the_three_profiles_are_right() {
    for spec in [flashvsr(), realesrgan(), seedvr2()] {
        assert_eq!(check(&spec), Ok(()));
    }
}

#[test]
fn each_fault_is_named() {
    type Change = fn(&mut UpscaleProfileSpec);
    let cases: [(Change, &str); 22] = [
        (|s| s.engine.args.push("{frob}".into()), "{frob} is no token"),
        (|s| s.ladder[0].args.push("{models}{Scale}".into()), "{Scale} is no token"),
        (|s| s.engine.models = None, "{models} has no value"),
        (|s| s.ladder[4].tiles = None, "{tile} has no value"),
        (|s| drop(s.engine.env.insert("LD_PRELOAD".into(), "x".into())), "`LD_PRELOAD` is refused"),
        (|s| drop(s.engine.env.insert("NVIDIA_VISIBLE_DEVICES".into(), "all".into())), "is refused"),
        (
            |s| drop(s.failure.fragmentation_env.insert("CUDA_VISIBLE_DEVICES".into(), "0".into())),
            "is refused",
        ),
        (|s| drop(s.engine.env.insert("A=B".into(), String::new())), "is refused"),
        (|s| s.engine.user = 0, "engine.user is 0, must be 1"),
        (|s| s.scales = vec![2, 2], "scales is wrong"),
        (|s| s.scales = vec![5], "scales is wrong"),
        (|s| s.ladder.clear(), "1 to 16 steps"),
        (|s| s.ladder[0].gpu.clear(), "1 to 4 phases"),
        (|s| s.ladder[1].name = s.ladder[0].name.clone(), "each name once"),
        (|s| drop(s.ladder[0].tiles.as_mut().unwrap().insert("2".into(), "big".into())), "`big` is wrong"),
        (
            |s| drop(s.ladder[0].tiles.as_mut().unwrap().insert("2".into(), "100/10".into())),
            "no multiple of 128",
        ),
        (
            |s| drop(s.ladder[0].tiles.as_mut().unwrap().insert("7".into(), "128/16".into())),
            "not one of `scales`",
        ),
        (|s| s.output.path = "../out.mp4".into(), "output.path is wrong"),
        (|s| s.output.bad_border = 9, "output.badBorder is 9, must be 0 to 8"),
        (|s| s.input.frames.remainder = 8, "input.frames.remainder is 8, must be 0 to 7"),
        (|s| s.input.context.least_before = Some(25), "input.context.leastBefore is 25"),
        (|s| s.steps.last = Some(10), "no range of the ladder"),
    ];
    for (change, expected) in cases {
        let mut spec = flashvsr();
        change(&mut spec);
        let error = check(&spec).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error} should say {expected}");
    }
}

#[test]
fn models_have_one_home_and_a_path_of_their_own() {
    for path in ["/", "models", "/scratch/models", "/tmp", "/a/../b", "/dev/shm"] {
        let mut spec = flashvsr();
        spec.engine.models.as_mut().unwrap().path = path.to_owned();
        assert!(check(&spec).is_err(), "{path}");
    }
    let mut spec = flashvsr();
    spec.engine.models.as_mut().unwrap().claim = Some("models".to_owned());
    assert!(check(&spec).is_err());
}
