//! Cases stand in `testdata/cgroups.txt`; properties here.

use proptest::prelude::*;

use super::*;

const CASES: &str = include_str!("../../testdata/cgroups.txt");
const OWN_UID: &str = "ffffffff-0000-4000-8000-000000000001";
const POD: &str = "0a4f7d0e-92b6-4b8b-a7a0-51f0d3b4c544";

fn reader(own: &str) -> Reader {
    Reader {
        private: own == "PRIVATE",
        path: if own == "PRIVATE" { "/".to_owned() } else { own.to_owned() },
        pod_uid: Some(OWN_UID.to_owned()),
    }
}

#[test]
fn every_case_of_the_file_is_read_as_it_says() {
    let mut checked = 0;
    for case in CASES.split("\n\n").map(str::trim).filter(|case| case.contains("\nrow:")) {
        let field = |key: &str| {
            case.lines().filter_map(|line| line.strip_prefix(key)).map(str::trim).collect::<Vec<_>>()
        };
        let rows = field("row:").join("\n").replace("<64>", &"b1".repeat(32));
        let got = owner(&rows, &reader(field("own:")[0]));
        let said = got.uid.map_or(got.kind.as_str().to_owned(), |uid| format!("{} {uid}", got.kind.as_str()));
        assert_eq!(said, field("expect:")[0].replace("OWN", OWN_UID), "{case}");
        checked += 1;
    }
    assert_eq!(checked, CASES.matches("\nexpect:").count());
    assert!(checked >= 20, "{checked} cases");
}

#[test]
fn an_empty_or_absurd_file_is_unknown() {
    for text in ["", "\n\n", "nonsense", "::", "a:b"] {
        let kind = owner(text, &reader("/")).kind;
        assert!(matches!(kind, Kind::Unknown | Kind::Host), "{text:?}: {kind:?}");
    }
}

#[test]
fn own_pod_is_unknown_as_long_as_its_uid_is_not_told() {
    let untold = Reader { private: true, path: "/".to_owned(), pod_uid: None };
    assert_eq!(owner("0::/", &untold), Owner::of(Kind::Unknown));
}

fn element() -> impl Strategy<Value = String> {
    let uid = "[0-9a-f]{8}(_[0-9a-f]{4}){3}_[0-9a-f]{12}";
    prop_oneof![
        Just("..".to_owned()),
        "[a-z.@:()-]{0,12}",
        "[0-9a-f]{64}",
        uid.prop_map(|uid| format!("kubepods-burstable-pod{uid}.slice")),
        uid.prop_map(|uid| format!("pod{}", uid.replace('_', "-"))),
        "[0-9a-f]{64}".prop_map(|id| format!("cri-containerd-{id}.scope")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_content_makes_the_parser_panic(text in "(?s).{0,300}", private: bool) {
        let _ = owner(&text, &reader(if private { "PRIVATE" } else { "/" }));
    }

    #[test]
    fn a_pod_named_below_another_never_wins(below in prop::collection::vec(element(), 0..6), systemd: bool) {
        let outer = if systemd {
            format!("/kubepods.slice/kubepods-pod{}.slice", POD.replace('-', "_"))
        } else {
            format!("/kubepods/pod{POD}")
        };
        let row = format!("0::{outer}/{}", below.join("/"));
        prop_assert_eq!(owner(&row, &reader("/")), Owner::pod(POD.to_owned()));
    }
}
