//! Good documents are read, and each slip is told with its place and what would be right; bounds hold against hostile ones.

use proptest::prelude::*;

use super::*;
use crate::StorageMode;

const HEAD: &str = "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {name: front-door}\n";

fn message(body: &str) -> String {
    from_yaml(&format!("{HEAD}{body}"), "session.yaml").unwrap_err().to_string()
}

fn example(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn an_empty_spec_is_every_default() {
    let session = from_yaml(&example("minimal.yaml"), "minimal.yaml").unwrap();
    assert_eq!(session.spec, StreamSessionSpec::default());
    assert_eq!(session.validate(), []);
}

#[test]
fn the_commented_example_is_good_and_names_only_defaults_that_are_true() {
    let session = from_yaml(&example("front-door.yaml"), "front-door.yaml").unwrap();
    assert_eq!(session.validate(), []);
    assert_eq!(session.metadata.name.as_deref(), Some("front-door"));
    assert_eq!(session.spec.auth, crate::Auth::default());
    assert_eq!(session.spec.exposure, crate::Exposure::default());
    assert_eq!(session.spec.turn, crate::Turn::default());
    assert_eq!(session.spec.storage.mode, StorageMode::Managed);
    assert_eq!(session.spec.limits, crate::Limits::default());
    assert_eq!(session.spec.drain, crate::Drain::default());
}

#[test]
fn the_example_for_kind_is_good_and_has_the_ports_that_its_configuration_maps() {
    let session = from_yaml(&example("kind.yaml"), "kind.yaml").unwrap();
    assert_eq!(session.validate(), []);
    let ports = [session.spec.exposure.node_port, session.spec.turn.node_port];
    let cluster = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../kind-config.yaml")).unwrap();
    for port in ports {
        let mapped = format!("containerPort: {}, hostPort: {}, protocol: UDP", port.unwrap(), port.unwrap());
        assert!(cluster.contains(&mapped), "{mapped}");
    }
}

#[test]
fn a_slip_in_a_name_is_refused_with_its_place_and_the_name_meant() {
    assert_eq!(
        message("spec:\n  limits:\n    maxPublisher: 4\n"),
        "session.yaml:6:5: unknown field `maxPublisher` at spec.limits, did you mean `maxPublishers`?"
    );
    assert_eq!(
        message("spec: {turn: {credentialTtl: 1h}}\n"),
        "session.yaml:4:15: unknown field `credentialTtl` at spec.turn, did you mean `credentialTTL`?"
    );
    assert_eq!(message("specs: {}\n"), "session.yaml:4:1: unknown field `specs` at the root, did you mean `spec`?");
    assert!(message("spec: {pod: {tolerations: [{effekt: NoExecute}]}}").contains("did you mean `effect`?"));
}

#[test]
fn a_name_that_is_like_no_other_is_refused_with_the_names_known() {
    assert_eq!(
        message("spec:\n  drain:\n    colour: red\n"),
        "session.yaml:6:5: unknown field `colour` at spec.drain, known there: deadline"
    );
}

#[test]
fn maps_of_free_names_take_any() {
    let text = format!(
        "{HEAD}spec: {{pod: {{nodeSelector: {{zone: a}}}}, exposure: {{ingress: {{host: a.b, annotations: {{x/y: z}}}}}}}}"
    );
    let session = from_yaml(&text, "session.yaml").unwrap();
    assert_eq!(session.spec.pod.node_selector["zone"], "a");
}

#[test]
fn a_value_of_the_wrong_form_is_refused_with_its_place_and_what_to_write() {
    for (body, wanted) in [
        (
            "spec:\n  limits:\n    maxPublishers: four\n",
            "session.yaml:6:20: spec.limits.maxPublishers: invalid type: string \"four\", expected a whole number from 0 to 4294967295",
        ),
        (
            "spec:\n  recording:\n    segmentDuration: 10 s\n",
            "session.yaml:6:22: spec.recording.segmentDuration: `10 s` cannot be read here: write a duration such as 500ms, 10s, 5m, 1h30m or 30d (days stand alone)",
        ),
        (
            "spec: {recording: {segmentDuration: 10}}",
            "session.yaml:4:37: spec.recording.segmentDuration: invalid type: integer `10`, expected a duration such as 10s, 5m, 1h or 30d",
        ),
        (
            "spec: {recording: {retention: {keepFree: 10}}}",
            "session.yaml:4:42: spec.recording.retention.keepFree: invalid type: integer `10`, expected a percentage such as 10%, or bytes with a unit such as 5Gi",
        ),
        (
            "spec: {exposure: {type: Nodeport}}",
            "session.yaml:4:25: spec.exposure.type: unknown variant `Nodeport`, expected one of `NodePort`, `LoadBalancer`, `HostPort`, `ClusterIP`",
        ),
        (
            "spec: {exposure: {mediaPort: 81890}}",
            "session.yaml:4:30: spec.exposure.mediaPort: invalid value: integer `81890`, expected a whole number from 0 to 65535",
        ),
        (
            "spec: {limits: 4}",
            "session.yaml:4:16: spec.limits: invalid type: integer `4`, expected fields, each as `name: value`",
        ),
        (
            "spec: {exposure: {announce: 1.2.3.4}}",
            "session.yaml:4:29: spec.exposure.announce: invalid type: string \"1.2.3.4\", expected a list",
        ),
        (
            "spec: {recording: {enabled: 'yes'}}",
            "session.yaml:4:29: spec.recording.enabled: invalid type: string \"yes\", expected true or false",
        ),
        ("spec: {exposure: {ingress: {}}}", "session.yaml:4:28: spec.exposure.ingress: missing field `host`"),
    ] {
        assert_eq!(message(body), wanted);
    }
}

#[test]
fn a_document_of_another_kind_is_refused_with_what_to_write() {
    let text = format!("{HEAD}spec: {{}}");
    for (from, to, wanted) in [
        (
            "v1alpha1",
            "v1",
            "s.yaml:1:13: apiVersion: `media.streamsession.io/v1` is not read here: write media.streamsession.io/v1alpha1",
        ),
        ("StreamSession", "Pod", "s.yaml:2:7: kind: `Pod` is not read here: write StreamSession"),
        ("kind: StreamSession\n", "", "s.yaml: kind: absent: write `kind: StreamSession`"),
        (
            "name: front-door",
            "",
            "s.yaml:3:11: metadata.name: absent: write a name, such as `metadata: {name: front-door}`",
        ),
        ("spec: {}", "", "s.yaml: spec: absent: write `spec: {}` to take every default"),
        ("spec: {}", "spec:", "s.yaml:4:6: spec: absent: write `spec: {}` to take every default"),
        (
            "spec: {}",
            "spec: {}\n---\n{}",
            "s.yaml: not YAML: more than one document in the file: keep one, without `---` after it",
        ),
    ] {
        assert_eq!(from_yaml(&text.replace(from, to), "s.yaml").unwrap_err().to_string(), wanted);
    }
    assert!(from_yaml("", "s.yaml").unwrap_err().to_string().starts_with("s.yaml"));
    assert!(from_yaml("# nothing\n", "s.yaml").is_err());
    assert!(from_yaml("[]", "s.yaml").unwrap_err().to_string().contains("begin with `apiVersion"));
}

#[test]
fn a_field_with_nothing_behind_it_is_its_default() {
    let session = from_yaml(&format!("{HEAD}spec:\n  limits:\n    # maxPublishers: 4\n  turn: ~\n"), "s.yaml").unwrap();
    assert_eq!(session.spec, StreamSessionSpec::default());
}

#[test]
fn a_doubled_field_and_broken_yaml_are_refused_with_their_place() {
    assert_eq!(
        message("spec:\n  paused: true\n  paused: false\n"),
        "session.yaml:6:3: field `paused` stands twice at spec: remove one"
    );
    let broken = message("spec: {limits: [}\n");
    assert!(broken.starts_with("session.yaml:4:17: not YAML: "), "{broken}");
    assert!(!broken.contains(" at line 4 column 17"), "{broken}");
    assert!(message("spec: !Tagged {}\n").contains("session.yaml:4:"));
}

#[test]
fn an_empty_file_and_a_tab_are_told_as_what_they_are() {
    for text in ["", "\n\n", "# nothing yet\n", "---\n...\n"] {
        let error = from_yaml(text, "session.yaml").unwrap_err().to_string();
        assert!(error.contains("the file is empty") && error.contains("apiVersion: "), "{text:?}: {error}");
    }
    let error = from_yaml(&format!("{HEAD}spec:\n  limits:\n\tmaxPublishers: 1\n"), "session.yaml").unwrap_err();
    assert_eq!(error.to_string(), "session.yaml:6:1: not YAML: the line begins with a tab: indent with blanks");
}

#[test]
fn what_expands_beyond_measure_is_refused() {
    let large = format!("{HEAD}spec: {{}}\n#{}", "x".repeat(MAX_YAML_BYTES));
    assert!(from_yaml(&large, "s.yaml").unwrap_err().to_string().contains("too many"));

    let list = vec!["a"; 1000].join(",");
    let aliases = vec!["*a"; 30_000].join(",");
    let bomb = format!("{HEAD}spec: {{exposure: {{announce: &a [{list}]}}, pod: {{tolerations: [{aliases}]}}}}");
    let error = from_yaml(&bomb, "s.yaml").unwrap_err();
    assert!(matches!(*error.problem, YamlProblem::TooLarge(_)), "{error}");

    let deep = format!("{HEAD}spec: {}", "[".repeat(10_000));
    assert!(from_yaml(&deep, "s.yaml").is_err());
}

#[test]
fn a_violation_is_found_in_the_text() {
    let text = format!("{HEAD}spec:\n  limits:\n    maxPublishers: 0\n  storage: {{mode: External}}\n");
    let session = from_yaml(&text, "s.yaml").unwrap();
    let places: Vec<_> = session.validate().iter().map(|violation| locate(&text, &violation.field).unwrap()).collect();
    assert_eq!(places, [Location { line: 6, column: 20 }, Location { line: 7, column: 12 }]);
}

#[test]
fn a_session_survives_a_round_trip_as_written() {
    let text = format!(
        "{HEAD}spec: {{limits: {{maxBitrate: 8000000}}, storage: {{size: 1.5Gi}}, recording: {{retention: {{maxAge: 30d, keepFree: 5%}}}}}}"
    );
    let session = from_yaml(&text, "s.yaml").unwrap();
    let again = serde_yaml::to_string(&session).unwrap();
    for piece in ["maxBitrate: 8000000", "size: 1.5Gi", "maxAge: 30d", "keepFree: 5%"] {
        assert!(again.contains(piece), "{again}");
    }
    assert_eq!(from_yaml(&again, "s.yaml").unwrap(), session);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = from_yaml(&text, "s.yaml");
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(pieces in proptest::collection::vec(
        prop_oneof![
            Just("spec"), Just(": "), Just("\n"), Just("  "), Just("{"), Just("}"), Just("["), Just("]"), Just(", "),
            Just("limits"), Just("maxPublishers"), Just("4"), Just("&a "), Just("*a"), Just("!t "), Just("- "),
            Just("? "), Just("| "), Just("~"), Just("<<"), Just("'"), Just("---\n"),
        ],
        0..60,
    )) {
        let _ = from_yaml(&format!("{HEAD}{}", pieces.concat()), "s.yaml");
    }
}
