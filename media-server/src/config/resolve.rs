//! Merges and checks, without reading anything.

use super::environment::check_ice_urls;
use super::{
    Config, ConfigError, Environment, MediaMode, RecordingConfig, SessionDocument, StoreConfig, TurnConfig,
    TurnCredentials, UdpConfig,
};
use crate::args::{Announce, ServeArgs};
use crate::auth::key::{self, MIN_SECRET};
use crate::auth::{AuthPlan, KeySource, Secret};
use crate::control::Limits;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use streamsession_api::{
    AuthMode as SpecAuthMode, DatabaseMode, ExposureType, StorageMode, StreamSessionSpec, TurnMode,
};

const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// The data folder when nobody names one.
pub const DEFAULT_DATA_DIR: &str = "streamsession-data";
const DEFAULT_RATE_LIMIT: u32 = 50;

/// Fields that name things of a cluster, and what to do without one.
const CLUSTER_ONLY: &[(&str, &str)] = &[
    ("exposure.ingress", "remove it; put a reverse proxy with a certificate in front of --http"),
    ("storage.storageClassName", "remove it; --data-dir names the folder"),
    ("storage.external.credentialsSecretRef", "remove it; a Secret cannot be read here"),
    ("turn.tlsSecretName", "remove it; a Secret cannot be read here"),
    ("turn.external.secretRef", "remove it; give TURN_URLS, TURN_USERNAME and TURN_CREDENTIAL in the environment"),
    ("database.urlSecretRef", "remove it; the registry is an SQLite file in --data-dir"),
    ("pod", "remove it; there is no pod"),
    ("paused", "remove it; stop the process to pause it"),
];

/// Merges what was given. `secret` is the content of `--jwt-secret-file`.
pub fn resolve(
    args: &ServeArgs,
    environment: &Environment,
    secret: Option<Secret>,
    session: Option<&SessionDocument>,
) -> Result<Config, ConfigError> {
    let default_spec = StreamSessionSpec::default();
    let spec = session.map_or(&default_spec, SessionDocument::spec);
    let mut notes = Vec::new();
    if let Some(session) = session {
        if !environment.in_cluster {
            refuse_cluster_only(session)?;
        }
        refuse_unsupported(spec)?;
        let elsewhere = environment.turn_urls.is_some() || environment.in_cluster;
        if session.says("turn.mode") && spec.turn.mode == TurnMode::Managed && !elsewhere {
            notes.push(
                "spec.turn.mode Managed: no relay runs in this process, so clients need a direct path".to_owned(),
            );
        }
    }
    if session.is_some_and(|session| session.says("recording.retention")) {
        notes.push(
            "spec.recording.retention: this version deletes nothing by itself; DELETE /recordings/{id} and the console do"
                .to_owned(),
        );
    }
    let http = args.network.http.unwrap_or(DEFAULT_HTTP);
    let data_dir = args.files.data_dir.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
    let media = match environment.mode.as_deref().map(str::trim) {
        None | Some("single_server_sfu") => MediaMode::SingleServerSfu,
        Some(other) => MediaMode::ControlOnly(other.to_owned()),
    };
    if let (MediaMode::ControlOnly(mode), true) = (&media, args.runtime.demo) {
        return Err(ConfigError::value(
            "MEDIA_MODE",
            mode,
            "--demo needs media: use single_server_sfu, or leave out --demo",
        ));
    }
    let recording = spec.recording.enabled.then(|| RecordingConfig {
        segment_duration: spec.recording.segment_duration.as_duration(),
        idle_timeout: spec.recording.idle_timeout.as_duration(),
        retention: spec.recording.retention.clone(),
    });
    Ok(Config {
        http,
        management: args.network.management,
        admin_token_file: args.access.admin_token_file.clone(),
        udp: udp(args, environment, spec)?,
        media,
        shards: args.runtime.shards,
        recordings_dir: environment.recordings_dir.as_ref().map_or_else(|| data_dir.join("recordings"), PathBuf::from),
        session: args.files.session.clone(),
        auth: auth(http, environment, secret, session, spec, &data_dir)?,
        data_dir,
        limits: limits(environment, spec)?,
        recording,
        idle_timeout: spec.recording.idle_timeout.as_duration(),
        store: store(args, environment, session),
        turn: turn(args, environment, spec)?,
        any_host: spec.auth.acknowledge_open || !http.ip().to_canonical().is_loopback(),
        drain_deadline: spec.drain.deadline.as_duration(),
        rate_limit: args.access.rate_limit.unwrap_or(DEFAULT_RATE_LIMIT),
        demo: args.runtime.demo,
        log_format: args.runtime.log_format,
        notes,
    })
}

fn refuse_cluster_only(session: &SessionDocument) -> Result<(), ConfigError> {
    let exposure = session.spec().exposure.type_;
    if session.says("exposure.type") && exposure != ExposureType::ClusterIP {
        let remedy = "use ClusterIP; --udp-port, --udp-address and --announce say how media is reached";
        return Err(ConfigError::cluster_only(&format!("spec.exposure.type {exposure:?}"), remedy));
    }
    match CLUSTER_ONLY.iter().find(|(path, _)| session.says(path)) {
        Some((path, remedy)) => Err(ConfigError::cluster_only(&format!("spec.{path}"), remedy)),
        None => Ok(()),
    }
}

fn refuse_unsupported(spec: &StreamSessionSpec) -> Result<(), ConfigError> {
    if spec.database.mode == DatabaseMode::Postgres {
        return Err(ConfigError::unsupported("spec.database.mode Postgres", "use SQLite"));
    }
    if spec.auth.mode == SpecAuthMode::Callback {
        return Err(ConfigError::unsupported("spec.auth.mode Callback", "use JWT with a secret"));
    }
    if spec.auth.jwks.is_some() {
        return Err(ConfigError::unsupported("spec.auth.jwks", "use JWT with a secret (HS256)"));
    }
    Ok(())
}

fn udp(args: &ServeArgs, environment: &Environment, spec: &StreamSessionSpec) -> Result<UdpConfig, ConfigError> {
    let mut announce = args.network.announce.clone();
    for (index, text) in spec.exposure.announce.iter().enumerate() {
        let address: Announce = text.parse().map_err(|_| {
            let remedy = "write an IP address with an optional port, such as 203.0.113.7:31189";
            ConfigError::value(&format!("spec.exposure.announce[{index}]"), text, remedy)
        })?;
        if !announce.contains(&address) {
            announce.push(address);
        }
    }
    Ok(UdpConfig {
        address: args.network.udp_address,
        port: args.network.udp_port.unwrap_or(spec.exposure.media_port),
        announce,
        pod_ip: pod_ip(environment)?,
    })
}

fn pod_ip(environment: &Environment) -> Result<Option<IpAddr>, ConfigError> {
    let Some(text) = environment.pod_ip.as_deref() else { return Ok(None) };
    match text.trim().parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() => Ok(Some(ip)),
        _ => {
            Err(ConfigError::value("POD_IP", text, "write the pod's address (fieldRef status.podIP), or leave it out"))
        }
    }
}

/// The object store: the one in the pod, any elsewhere, or none.
fn store(args: &ServeArgs, environment: &Environment, session: Option<&SessionDocument>) -> Option<StoreConfig> {
    let session = session?;
    let storage = &session.spec().storage;
    let credentials_dir = args.access.store_credentials_dir.clone();
    let namespace = environment.pod_namespace.as_deref().or(session.namespace());
    let prefix = match (namespace, session.name()) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}/"),
        _ => String::new(),
    };
    match (storage.mode, &storage.external) {
        (StorageMode::Managed, _) if environment.in_cluster => Some(StoreConfig {
            mode: StorageMode::Managed,
            endpoint: "http://127.0.0.1:9000".to_owned(),
            region: "us-east-1".to_owned(),
            bucket: "recordings".to_owned(),
            path_style: true,
            prefix,
            credentials_dir,
            create_bucket: true,
        }),
        (StorageMode::External, Some(external)) => Some(StoreConfig {
            mode: StorageMode::External,
            endpoint: external.endpoint.trim_end_matches('/').to_owned(),
            region: external.region.clone(),
            bucket: external.bucket.clone(),
            path_style: external.path_style,
            prefix,
            credentials_dir,
            create_bucket: false,
        }),
        _ => None,
    }
}

fn limits(environment: &Environment, spec: &StreamSessionSpec) -> Result<Limits, ConfigError> {
    let overridden = |name: &str, value: &Option<String>, default: u32| match value {
        None => Ok(default as usize),
        Some(text) => match text.trim().parse::<u32>() {
            Ok(number @ 1..) => Ok(number as usize),
            _ => Err(ConfigError::value(name, text, "write a whole number of at least 1")),
        },
    };
    Ok(Limits {
        max_publishers: overridden("MEDIA_MAX_PUBLISHERS", &environment.max_publishers, spec.limits.max_publishers)?,
        max_subscribers_per_room: overridden(
            "MEDIA_MAX_SUBSCRIBERS_PER_ROOM",
            &environment.max_subscribers_per_room,
            spec.limits.max_subscribers_per_room,
        )?,
        max_streams_per_account: spec.limits.max_streams_per_account.map(|number| number as usize),
        max_bitrate: Some(spec.limits.max_bitrate.as_u64()),
    })
}

fn turn(
    args: &ServeArgs,
    environment: &Environment,
    spec: &StreamSessionSpec,
) -> Result<Option<TurnConfig>, ConfigError> {
    if let Some(turn) = environment.turn()? {
        return Ok(Some(turn));
    }
    let credentials = match &args.access.turn_secret_dir {
        Some(dir) => TurnCredentials::Shared { dir: dir.clone(), ttl: spec.turn.credential_ttl.as_duration() },
        None => TurnCredentials::None,
    };
    match (&spec.turn.mode, &spec.turn.external) {
        (TurnMode::External, Some(external)) => {
            check_ice_urls("spec.turn.external.urls", &external.urls)?;
            Ok(Some(TurnConfig { urls: external.urls.clone(), credentials }))
        }
        // Where the relay is reached the operator tells.
        (TurnMode::Managed, _) if environment.in_cluster => Ok(Some(TurnConfig { urls: Vec::new(), credentials })),
        _ => Ok(None),
    }
}

/// A session's mode holds as it stands there, and by default it is JWT; for JWT without keys a secret is made. Without a
/// session open is the default, on a loopback address only.
fn auth(
    http: SocketAddr,
    environment: &Environment,
    file: Option<Secret>,
    session: Option<&SessionDocument>,
    spec: &StreamSessionSpec,
    data_dir: &Path,
) -> Result<AuthPlan, ConfigError> {
    let loopback = http.ip().to_canonical().is_loopback();
    // In a pod every address is open to the cluster at most, when that is what the Service says.
    let inside = environment.in_cluster && spec.exposure.type_ == ExposureType::ClusterIP;
    let (source, secret) = match (file, &environment.jwt_secret) {
        (Some(secret), _) => ("--jwt-secret-file", Some(secret)),
        (None, variable) => ("MEDIA_JWT_SECRET", variable.clone()),
    };
    if let Some(secret) = secret.as_ref().filter(|secret| secret.expose().len() < MIN_SECRET) {
        let length = format!("{} bytes", secret.expose().len());
        let remedy =
            format!("HS256 needs at least {MIN_SECRET} bytes; head -c 48 /dev/urandom | base64 makes a good one");
        return Err(ConfigError::value(source, length, remedy));
    }
    let secret_ref = session.is_some_and(|session| session.says("auth.secretRef"));
    let jwt = |key| {
        let (issuer, audience) = (spec.auth.issuer.clone(), spec.auth.audience.clone());
        Ok(AuthPlan::Jwt { key, issuer, audience })
    };
    match (session.map(|_| spec.auth.mode), secret) {
        (Some(SpecAuthMode::Open), Some(_)) => Err(ConfigError::value(
            "spec.auth.mode",
            "Open",
            format!("a secret is given by {source}: use JWT, or remove it"),
        )),
        (Some(SpecAuthMode::Open), None) if loopback || inside || spec.auth.acknowledge_open => Ok(AuthPlan::Open),
        (Some(SpecAuthMode::Open), None) => Err(ConfigError::OpenToAll { http }),
        (_, Some(secret)) => jwt(KeySource::Given(secret)),
        (Some(_), None) if secret_ref && environment.in_cluster => Err(ConfigError::NoSecret),
        (Some(_), None) if secret_ref => Err(ConfigError::cluster_only(
            "spec.auth.secretRef",
            "remove it, and give the secret by --jwt-secret-file or MEDIA_JWT_SECRET",
        )),
        (Some(_), None) => jwt(KeySource::Made(data_dir.join(key::FILE_NAME))),
        (None, None) if loopback => Ok(AuthPlan::Open),
        (None, None) => Err(ConfigError::OpenToAll { http }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn session(spec: &str) -> SessionDocument {
        let text = format!(
            "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {{name: door}}\nspec:\n{spec}\n"
        );
        SessionDocument::parse(Path::new("door.yaml"), &text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn outside() -> ServeArgs {
        let mut args = ServeArgs::default();
        args.network.http = Some("0.0.0.0:8080".parse().unwrap());
        args
    }

    fn message(result: Result<Config, ConfigError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn nothing_given_means_open_on_loopback_with_the_documents_defaults() {
        let config = resolve(&ServeArgs::default(), &Environment::default(), None, None).unwrap();
        assert_eq!(config.http, "127.0.0.1:8080".parse::<SocketAddr>().unwrap());
        assert_eq!((config.udp.port, config.udp.address), (8189, None));
        assert_eq!(config.auth, AuthPlan::Open);
        assert_eq!((config.limits.max_publishers, config.limits.max_subscribers_per_room), (4, 50));
        assert_eq!(config.limits.max_bitrate, Some(8_000_000));
        assert_eq!(config.recordings_dir, Path::new("streamsession-data/recordings"));
        assert_eq!(config.idle_timeout, Duration::from_secs(30));
        assert!(config.carries_media() && config.recording.is_some() && config.turn.is_none());
    }

    #[test]
    fn environment_overrides_the_document_and_flags_name_the_rest() {
        let document = session(
            "  limits: {maxPublishers: 2, maxSubscribersPerRoom: 3}\n  exposure: {mediaPort: 9000, announce: [203.0.113.7]}",
        );
        let variables = environment(&[
            ("MEDIA_MAX_PUBLISHERS", "7"),
            ("MEDIA_RECORDINGS_DIR", "/rec"),
            ("TURN_URLS", "turn:t.example:3478,stun:t.example"),
            ("TURN_USERNAME", "u"),
            ("TURN_CREDENTIAL", "c"),
        ]);
        let config = resolve(&ServeArgs::default(), &variables, None, Some(&document)).unwrap();
        assert_eq!((config.limits.max_publishers, config.limits.max_subscribers_per_room), (7, 3));
        assert_eq!((config.udp.port, config.udp.announce.len()), (9000, 1));
        assert_eq!(config.recordings_dir, Path::new("/rec"));
        assert_eq!(config.turn.unwrap().urls.len(), 2);
        let mut args = ServeArgs::default();
        args.network.udp_port = Some(9001);
        assert_eq!(resolve(&args, &variables, None, Some(&document)).unwrap().udp.port, 9001);
    }

    #[test]
    fn another_media_mode_runs_without_media() {
        let config = resolve(&ServeArgs::default(), &environment(&[("MEDIA_MODE", "mesh")]), None, None).unwrap();
        assert_eq!(config.media, MediaMode::ControlOnly("mesh".into()));
        let config = resolve(&ServeArgs::default(), &environment(&[("MEDIA_MODE", "single_server_sfu")]), None, None);
        assert!(config.unwrap().carries_media());
    }

    #[test]
    fn open_is_refused_outside_loopback_unless_it_is_meant() {
        let none = Environment::default();
        let text = message(resolve(&outside(), &none, None, None));
        assert!(
            ["0.0.0.0:8080", "--jwt-secret-file", "--session", "acknowledgeOpen"]
                .iter()
                .all(|part| text.contains(part)),
            "{text}"
        );
        let meant = session("  exposure: {mediaPort: 8189}\n  auth: {mode: Open, acknowledgeOpen: true}");
        assert_eq!(resolve(&outside(), &none, None, Some(&meant)).unwrap().auth, AuthPlan::Open);
        let keyed = environment(&[("MEDIA_JWT_SECRET", SECRET)]);
        assert!(matches!(resolve(&outside(), &keyed, None, None).unwrap().auth, AuthPlan::Jwt { .. }));
        for loopback in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let mut args = ServeArgs::default();
            args.network.http = Some(loopback.parse().unwrap());
            assert_eq!(resolve(&args, &none, None, None).unwrap().auth, AuthPlan::Open, "{loopback}");
        }
    }

    #[test]
    fn jwt_takes_issuer_and_audience_from_the_document() {
        let document = session("  auth: {mode: JWT, issuer: 'https://i', audience: cams}");
        let config =
            resolve(&ServeArgs::default(), &Environment::default(), Some(Secret::new(SECRET)), Some(&document));
        let expected = AuthPlan::Jwt {
            key: KeySource::Given(Secret::new(SECRET)),
            issuer: Some("https://i".into()),
            audience: Some("cams".into()),
        };
        assert_eq!(config.unwrap().auth, expected);
    }

    #[test]
    fn a_session_without_keys_means_tokens_by_a_secret_that_is_made() {
        for spec in ["  {}", "  limits: {maxPublishers: 1}", "  auth: {mode: JWT}", "  auth: {audience: cams}"] {
            for mut args in [ServeArgs::default(), outside()] {
                args.files.data_dir = Some("/data".into());
                let plan = resolve(&args, &Environment::default(), None, Some(&session(spec))).unwrap().auth;
                let AuthPlan::Jwt { key, .. } = plan else { panic!("{spec}: open") };
                assert_eq!(key, KeySource::Made("/data/jwt.secret".into()), "{spec}");
            }
        }
    }

    #[test]
    fn a_secret_reference_in_a_pod_wants_the_secret_in_the_environment() {
        let in_pod = environment(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")]);
        let document = session("  auth: {secretRef: {name: s, key: k}}");
        let text = message(resolve(&outside(), &in_pod, None, Some(&document)));
        assert!(text.contains("MEDIA_JWT_SECRET") && text.contains("secretRef"), "{text}");
    }

    #[test]
    fn a_short_secret_is_refused_without_being_shown() {
        let text =
            message(resolve(&ServeArgs::default(), &environment(&[("MEDIA_JWT_SECRET", "hunter2")]), None, None));
        assert!(text.contains("32 bytes") && text.contains("7 bytes") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn wrong_values_are_named_with_what_would_be_right() {
        for (variables, parts) in [
            (vec![("MEDIA_MAX_PUBLISHERS", "many")], vec!["MEDIA_MAX_PUBLISHERS", "many", "at least 1"]),
            (vec![("MEDIA_MAX_SUBSCRIBERS_PER_ROOM", "0")], vec!["MEDIA_MAX_SUBSCRIBERS_PER_ROOM", "\"0\""]),
            (vec![("TURN_URLS", "http://x")], vec!["TURN_URLS", "http://x", "turn:HOST"]),
            (vec![("TURN_URLS", "turn:x>;y"), ("TURN_USERNAME", "u"), ("TURN_CREDENTIAL", "c")], vec!["turn:x>;y"]),
            (vec![("TURN_URLS", "turn:x")], vec!["TURN_CREDENTIAL"]),
            (vec![("TURN_URLS", "turn:x"), ("TURN_USERNAME", "u")], vec!["TURN_USERNAME", "TURN_CREDENTIAL"]),
        ] {
            let text = message(resolve(&ServeArgs::default(), &environment(&variables), None, None));
            assert!(parts.iter().all(|part| text.contains(part)), "{variables:?}: {text}");
        }
    }

    #[test]
    fn what_only_a_cluster_can_do_is_refused_by_name() {
        for (spec, field) in [
            ("  exposure: {type: NodePort}", "spec.exposure.type"),
            ("  exposure: {ingress: {host: cams.example.com}}", "spec.exposure.ingress"),
            ("  storage: {storageClassName: fast}", "spec.storage.storageClassName"),
            ("  turn: {tlsSecretName: t}", "spec.turn.tlsSecretName"),
            ("  auth: {secretRef: {name: s, key: k}}", "spec.auth.secretRef"),
            ("  pod: {image: x}", "spec.pod"),
            ("  paused: true", "spec.paused"),
        ] {
            let text = message(resolve(&ServeArgs::default(), &Environment::default(), None, Some(&session(spec))));
            assert!(text.contains(field) && text.contains("cluster"), "{spec}: {text}");
        }
        let in_pod = environment(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")]);
        let document = session("  exposure: {type: NodePort}");
        assert!(resolve(&ServeArgs::default(), &in_pod, None, Some(&document)).is_ok());
    }

    #[test]
    fn a_secret_given_beside_a_secret_reference_is_used() {
        let document = session("  auth: {mode: JWT, secretRef: {name: s, key: k}}");
        let config = resolve(&outside(), &Environment::default(), Some(Secret::new(SECRET)), Some(&document));
        assert!(matches!(config.unwrap().auth, AuthPlan::Jwt { .. }));
    }

    #[test]
    fn a_violation_is_located() {
        let text = "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {name: door}\nspec:\n  limits:\n    maxPublishers: 0\n";
        let error = SessionDocument::parse(Path::new("door.yaml"), text).unwrap_err().to_string();
        assert!(error.starts_with("door.yaml:6:") && error.contains("maxPublishers"), "{error}");
    }

    #[test]
    fn the_examples_run_without_a_cluster() {
        for (name, open) in [("front-door.yaml", true), ("minimal.yaml", false)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
            let document = SessionDocument::read(&path).unwrap_or_else(|error| panic!("{error}"));
            let config = resolve(&ServeArgs::default(), &Environment::default(), None, Some(&document));
            let auth = config.unwrap_or_else(|error| panic!("{name}: {error}")).auth;
            assert_eq!(auth == AuthPlan::Open, open, "{name}");
        }
    }

    #[test]
    fn a_typo_is_located_and_the_nearest_field_is_named() {
        let text = "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {name: door}\nspec:\n  limts:\n    maxPublishers: 1\n";
        let error = SessionDocument::parse(Path::new("door.yaml"), text).unwrap_err().to_string();
        assert!(error.starts_with("door.yaml:5:3"), "{error}");
        assert!(error.contains("limts") && error.contains("limits"), "{error}");
    }

    #[test]
    fn demo_without_media_is_refused() {
        let mut args = ServeArgs::default();
        args.runtime.demo = true;
        assert!(message(resolve(&args, &environment(&[("MEDIA_MODE", "mesh")]), None, None)).contains("--demo"));
    }
}
