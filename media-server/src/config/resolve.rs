//! Merges and checks, without reading anything.

use super::answers::{answers_of, gop_cache_of};
use super::environment::check_ice_urls;
use super::http::http_of;
use super::{
    Config, ConfigError, Environment, MediaMode, RecordingConfig, SessionDocument, StoreFiles, TurnConfig,
    TurnCredentials, UdpConfig, store_of,
};
use crate::args::{Announce, ServeArgs};
use crate::auth::key::{self, MIN_SECRET};
use crate::auth::{AuthPlan, KeySource, Secret};
use crate::control::Limits;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use streamsession_api::{AuthMode as SpecAuthMode, DatabaseMode, ExposureType, StreamSessionSpec, TurnMode};

const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// The data folder when nobody names one.
pub const DEFAULT_DATA_DIR: &str = "streamsession-data";
const DEFAULT_RATE_LIMIT: u32 = 50;

/// Fields that name things of a cluster, and what to do without one.
const CLUSTER_ONLY: &[(&str, &str)] = &[
    ("exposure.ingress", "remove it; put a reverse proxy with a certificate in front of --http"),
    ("storage.storageClassName", "remove it; --data-dir names the folder"),
    (
        "storage.external.credentialsSecretRef",
        "remove it, or give the keys by --store-credentials-dir; without it AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY count",
    ),
    ("storage.external.caBundle", "remove it, or give the certificates by --store-ca-file"),
    ("storage.external.webIdentity", "remove it; AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE name role and token"),
    ("turn.tlsSecretName", "remove it; a Secret cannot be read here"),
    (
        "turn.external.secretRef",
        "give the secret by --turn-secret-dir, or remove it and give TURN_URLS, TURN_USERNAME and TURN_CREDENTIAL in the environment",
    ),
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
            refuse_cluster_only(args, session)?;
        }
        refuse_unsupported(spec)?;
        let elsewhere = environment.turn_urls.is_some() || environment.in_cluster;
        if session.says("turn.mode") && spec.turn.mode == TurnMode::Managed && !elsewhere {
            notes.push(
                "spec.turn.mode Managed: no relay runs in this process, so clients need a direct path".to_owned(),
            );
        }
    }
    // In a cluster the operator has a job do it.
    if session.is_some_and(|session| session.says("recording.retention")) && !environment.in_cluster {
        notes.push(
            "spec.recording.retention: the server deletes nothing by itself; have cron run `media-server recordings prune --session FILE --yes`"
                .to_owned(),
        );
    }
    environment.check_store_endpoint()?;
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
    let recording = RecordingConfig {
        enabled: spec.recording.enabled,
        segment_duration: spec.recording.segment_duration.as_duration(),
        max_duration: spec.recording.max_duration.as_duration(),
        idle_timeout: spec.recording.idle_timeout.as_duration(),
        retention: spec.recording.retention.clone(),
    };
    let auth = auth(args, http, environment, secret, session, spec, &data_dir)?;
    if let Some(management) = args.network.management {
        check_management(args, management, http, &auth, spec.auth.acknowledge_open)?;
    }
    Ok(Config {
        http,
        management: args.network.management,
        admin_token_file: args.access.admin_token_file.clone(),
        udp: udp(args, environment, spec)?,
        media,
        shards: args.runtime.shards,
        recordings_dir: environment.recordings_dir.as_ref().map_or_else(|| data_dir.join("recordings"), PathBuf::from),
        session: args.files.session.clone(),
        auth,
        data_dir,
        limits: limits(environment, spec)?,
        answers: answers_of(&spec.media),
        gop_cache: gop_cache_of(&spec.media),
        recording,
        idle_timeout: spec.recording.idle_timeout.as_duration(),
        store: session.map(|session| store_of(session, store_files(args), environment)).transpose()?.flatten(),
        turn_mode: turn_mode(environment, spec),
        turn: turn(args, environment, spec)?,
        any_host: spec.auth.acknowledge_open || !http.ip().to_canonical().is_loopback(),
        http_settings: http_of(&spec.http),
        drain_deadline: spec.drain.deadline.as_duration(),
        rate_limit: args.access.rate_limit.unwrap_or(DEFAULT_RATE_LIMIT),
        demo: args.runtime.demo,
        log_format: args.runtime.log_format,
        notes,
    })
}

fn refuse_cluster_only(args: &ServeArgs, session: &SessionDocument) -> Result<(), ConfigError> {
    let exposure = session.spec().exposure.type_;
    if session.says("exposure.type") && exposure != ExposureType::ClusterIP {
        let remedy = "use ClusterIP; --udp-port, --udp-address and --announce say how media is reached";
        return Err(ConfigError::cluster_only(&format!("spec.exposure.type {exposure:?}"), remedy));
    }
    // What the Secret holds may be given beside the document.
    let given = |path| match path {
        "storage.external.credentialsSecretRef" => args.access.store_credentials_dir.is_some(),
        "storage.external.caBundle" => args.access.store_ca_file.is_some(),
        "turn.external.secretRef" => args.access.turn_secret_dir.is_some(),
        _ => false,
    };
    match CLUSTER_ONLY.iter().find(|(path, _)| session.says(path) && !given(*path)) {
        Some((path, remedy)) => Err(ConfigError::cluster_only(&format!("spec.{path}"), remedy)),
        None => Ok(()),
    }
}

fn store_files(args: &ServeArgs) -> StoreFiles {
    let access = &args.access;
    StoreFiles { credentials_dir: access.store_credentials_dir.clone(), ca_file: access.store_ca_file.clone() }
}

/// What is a valid spec, and yet more than this version does.
pub(crate) fn refuse_unsupported(spec: &StreamSessionSpec) -> Result<(), ConfigError> {
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
        ..limits_of(&spec.limits)
    })
}

/// The caps of a spec.
pub(crate) fn limits_of(limits: &streamsession_api::Limits) -> Limits {
    Limits {
        max_publishers: limits.max_publishers as usize,
        max_subscribers_per_room: limits.max_subscribers_per_room as usize,
        max_streams_per_account: limits.max_streams_per_account.map(|number| number as usize),
        max_bitrate: Some(limits.max_bitrate.as_u64()),
    }
}

fn turn_mode(environment: &Environment, spec: &StreamSessionSpec) -> TurnMode {
    match spec.turn.mode {
        _ if environment.turn_urls.is_some() => TurnMode::External,
        TurnMode::Managed if !environment.in_cluster => TurnMode::Disabled,
        mode => mode,
    }
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

fn check_management(
    args: &ServeArgs,
    management: SocketAddr,
    http: SocketAddr,
    auth: &AuthPlan,
    acknowledged: bool,
) -> Result<(), ConfigError> {
    if management == http && http.port() != 0 {
        let remedy = "--http is there: choose another port, or leave it out for one address for all";
        return Err(ConfigError::value("--management", management, remedy));
    }
    let open = *auth == AuthPlan::Open && args.access.admin_token_file.is_none();
    if open && !acknowledged && !management.ip().to_canonical().is_loopback() {
        return Err(ConfigError::ManagementOpenToAll { management });
    }
    Ok(())
}

/// A session's mode holds as it stands there, and by default it is JWT; for JWT without keys a secret is made. Without a
/// session open is the default, on a loopback address only.
fn auth(
    args: &ServeArgs,
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
    let given_by = file.as_ref().and(args.access.jwt_secret_file.as_deref());
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
        (_, Some(secret)) => jwt(match given_by {
            Some(file) => KeySource::File(file.to_owned(), secret),
            None => KeySource::Given(secret),
        }),
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
        assert_eq!(config.limits.max_bitrate, Some(20_000_000));
        assert_eq!(config.recordings_dir, Path::new("streamsession-data/recordings"));
        assert_eq!(config.idle_timeout, Duration::from_secs(30));
        assert!(config.carries_media() && config.recording.enabled && config.turn.is_none());
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
        for name in ["front-door.yaml", "minimal.yaml"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
            let document = SessionDocument::read(&path).unwrap_or_else(|error| panic!("{error}"));
            let config = resolve(&ServeArgs::default(), &Environment::default(), None, Some(&document));
            let auth = config.unwrap_or_else(|error| panic!("{name}: {error}")).auth;
            assert_ne!(auth, AuthPlan::Open, "{name}");
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

    const IN_POD: &[(&str, &str)] =
        &[("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("POD_IP", "10.244.0.9"), ("POD_NAMESPACE", "cams")];

    #[test]
    fn a_pod_refuses_nothing_as_of_a_cluster_alone() {
        let document = session(
            "  exposure: {type: NodePort, ingress: {host: cams.example.com, tlsSecretName: t}}\n  \
             turn: {tlsSecretName: t}\n  pod: {image: x}\n  auth: {secretRef: {name: s, key: k}}\n  \
             storage: {mode: External, storageClassName: fast, external: {endpoint: 'https://s3.example.com/', \
             bucket: recordings, credentialsSecretRef: {name: c}}}",
        );
        let mut args = outside();
        args.access.store_credentials_dir = Some("/etc/store".into());
        args.access.turn_secret_dir = Some("/etc/turn".into());
        let config = resolve(&args, &environment(IN_POD), Some(Secret::new(SECRET)), Some(&document)).unwrap();
        assert_eq!(config.udp.pod_ip, Some("10.244.0.9".parse().unwrap()));
        let ttl = Duration::from_secs(3600);
        let turn = config.turn.unwrap();
        assert_eq!((turn.urls.len(), config.turn_mode), (0, TurnMode::Managed));
        assert_eq!(turn.credentials, TurnCredentials::Shared { dir: "/etc/turn".into(), ttl });
        let store = config.store.unwrap();
        assert_eq!(store.endpoint, "https://s3.example.com");
        assert_eq!((store.prefix.as_str(), store.create_bucket, store.path_style), ("cams/door/", false, true));
        assert_eq!(store.credentials_dir, Some("/etc/store".into()));
        assert!(config.notes.is_empty(), "{:?}", config.notes);
    }

    #[test]
    fn managed_storage_is_the_store_in_the_pod_and_on_a_laptop_a_folder() {
        let document = session("  storage: {mode: Managed}");
        let keyed = Some(Secret::new(SECRET));
        let pod = resolve(&outside(), &environment(IN_POD), keyed.clone(), Some(&document)).unwrap().store.unwrap();
        assert_eq!((pod.endpoint.as_str(), pod.bucket.as_str()), ("http://127.0.0.1:9000", "recordings"));
        assert!(pod.create_bucket && pod.path_style && pod.prefix == "cams/door/");
        let laptop = resolve(&ServeArgs::default(), &Environment::default(), keyed.clone(), Some(&document)).unwrap();
        assert_eq!((laptop.store, laptop.turn_mode), (None, TurnMode::Disabled));
        let local = session("  storage: {mode: Local}");
        assert_eq!(resolve(&outside(), &environment(IN_POD), keyed, Some(&local)).unwrap().store, None);
    }

    #[test]
    fn a_store_elsewhere_is_used_without_a_cluster_with_keys_given_beside_the_document() {
        let external = "endpoint: 'http://127.0.0.1:9000', bucket: recordings";
        let none = Environment::default();
        let plain = session(&format!("  storage: {{mode: External, external: {{{external}}}}}"));
        let store = resolve(&ServeArgs::default(), &none, None, Some(&plain)).unwrap().store.unwrap();
        assert_eq!((store.prefix.as_str(), store.credentials_dir), ("", None));
        let referring = session(&format!(
            "  storage: {{mode: External, external: {{{external}, credentialsSecretRef: {{name: s}}}}}}"
        ));
        let text = message(resolve(&ServeArgs::default(), &none, None, Some(&referring)));
        assert!(text.contains("credentialsSecretRef") && text.contains("--store-credentials-dir"), "{text}");
        let mut args = ServeArgs::default();
        args.access.store_credentials_dir = Some("keys".into());
        let store = resolve(&args, &none, None, Some(&referring)).unwrap().store.unwrap();
        assert_eq!(store.credentials_dir, Some("keys".into()));
    }

    #[test]
    fn management_is_not_open_to_other_machines_unless_that_is_meant() {
        let managed = |management: &str, token: bool| {
            let mut args = ServeArgs::default();
            args.network.management = Some(management.parse().unwrap());
            args.access.admin_token_file = token.then(|| "token".into());
            args
        };
        let none = Environment::default();
        let text = message(resolve(&managed("0.0.0.0:8081", false), &none, None, None));
        assert!(text.contains("--management 0.0.0.0:8081") && text.contains("--admin-token-file"), "{text}");
        for good in [managed("127.0.0.1:8081", false), managed("0.0.0.0:8081", true)] {
            assert!(resolve(&good, &none, None, None).is_ok());
        }
        let keyed = resolve(&managed("0.0.0.0:8081", false), &none, Some(Secret::new(SECRET)), None);
        assert!(keyed.is_ok(), "tokens with the scope admin do");
        assert!(message(resolve(&managed("127.0.0.1:8080", false), &none, None, None)).contains("--http"));
    }

    #[test]
    fn a_pods_address_that_is_none_is_refused() {
        let text = message(resolve(&ServeArgs::default(), &environment(&[("POD_IP", "pod-0")]), None, None));
        assert!(text.contains("POD_IP") && text.contains("status.podIP"), "{text}");
    }

    #[test]
    fn a_secret_in_a_file_is_known_by_that_file() {
        let mut args = ServeArgs::default();
        args.access.jwt_secret_file = Some("keys/secret".into());
        let plan = resolve(&args, &Environment::default(), Some(Secret::new(SECRET)), None).unwrap().auth;
        assert_eq!(plan.file(), Some(Path::new("keys/secret")));
    }
}
