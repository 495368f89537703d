//! Cases stand in `testdata/cgroups.txt`; properties in [`mutated`].

mod mutated;

use super::*;

const CASES: &str = include_str!("../../testdata/cgroups.txt");
const OWN_UID: &str = "ffffffff-0000-4000-8000-000000000001";

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
    assert!(checked >= 55, "{checked} cases");
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
