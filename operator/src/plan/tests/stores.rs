//! Stores: a change of the mode, another owner of the prefix, and the way there.

use serde_json::{Value, json};

use super::{session, world::World};
use crate::plan::{Elsewhere, Kind, Proxies, ReportedElsewhere, children::final_job, names, scene::Scene};

fn external(fields: Value) -> Value {
    let mut store = json!({"endpoint": "https://s3.example.com", "bucket": "recordings"});
    store.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"mode": "External", "external": store})
}

fn settled(spec: &Value) -> World {
    let mut world = World::new(session(spec));
    world.settle();
    assert!(world.is_ready(), "{:?}", world.session.status);
    world
}

fn switch(world: &mut World) {
    world.change(|spec| spec["storage"] = external(json!({})));
    for _ in 0..20 {
        world.pass();
    }
}

fn containers(world: &World) -> Vec<&str> {
    let pod = world.pod.as_ref().unwrap();
    pod["spec"]["containers"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn managed_store_with_the_only_copies_is_kept() {
    let mut world = settled(&json!({}));
    world.server.as_mut().unwrap().recordings.only_in_store = Some(3);
    switch(&mut world);
    let (status, reason, message) = world.condition("Stalled");
    assert_eq!((status, reason), ("True", "RecordingsInManagedStore"), "{message}");
    for words in ["3 recordings", "annotate ss front-door", "leave-recordings=managed", "mode: Managed"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert!(containers(&world).contains(&"store"));
    let document = world.object(Kind::ConfigMap, "front-door").unwrap()["data"]["session.yaml"].as_str().unwrap();
    assert!(document.contains("mode: Managed"), "a container that restarts would read it: {document}");
    let annotations = world.session.metadata.annotations.get_or_insert_default();
    annotations.insert(names::LEAVE_RECORDINGS.to_owned(), names::MANAGED.to_owned());
    world.settle();
    assert!(!containers(&world).contains(&"store"));
    assert_eq!(world.condition("Stalled").0, "False");
}

#[test]
fn managed_store_without_recordings_is_replaced() {
    let mut world = settled(&json!({}));
    world.server.as_mut().unwrap().recordings.only_in_store = Some(0);
    world.server.as_mut().unwrap().recordings.count = 2;
    switch(&mut world);
    world.settle();
    assert!(!containers(&world).contains(&"store"), "the volume has them still, and they are uploaded");
}

#[test]
fn unknown_contents_of_the_managed_store_count() {
    let mut world = settled(&json!({}));
    // A server of an older version.
    world.server.as_mut().unwrap().recordings.count = 2;
    switch(&mut world);
    assert_eq!(world.condition("Stalled").1, "RecordingsInManagedStore");
    world.server = None;
    world.pass();
    assert_eq!(world.condition("Stalled").1, "RecordingsInManagedStore", "as the status has it");
}

#[test]
fn volume_of_a_server_with_the_managed_store_stays() {
    let mut world = settled(&json!({"recording": {"reclaimPolicy": "WaitForUploads"}}));
    world.server.as_mut().unwrap().publishers = 1;
    world.server.as_mut().unwrap().recordings.only_in_store = Some(0);
    switch(&mut world);
    assert!(containers(&world).contains(&"store"), "the change waits for the camera");
    world.delete_session();
    world.settle_deletion().unwrap();
    assert!(world.object(Kind::PersistentVolumeClaim, "front-door-data").is_some(), "{:?}", world.events);
}

#[test]
fn volume_with_objects_of_the_managed_store_is_not_drained() {
    let mut world = settled(&json!({"recording": {"reclaimPolicy": "WaitForUploads"}, "storage": external(json!({}))}));
    let message = "2 recordings are only in another store, managed:/recordings/cameras/front-door/".to_owned();
    let elsewhere = ReportedElsewhere { recordings: 2, on_volume: 2, message };
    let server = world.server.as_mut().unwrap();
    server.uploads.elsewhere = Some(elsewhere);
    server.recordings.pending_uploads = u64::MAX;
    world.pass();
    let (status, reason, message) = world.condition("UploadsHealthy");
    assert_eq!((status, reason), ("False", "RecordingsElsewhere"));
    assert!(message.contains("managed:/recordings"), "{message}");
    world.delete_session();
    for _ in 0..20 {
        world.pass();
        assert!(world.pod.is_some() && !world.gone);
    }
    let (_, reason, message) = world.condition("Ready");
    assert_eq!(reason, "ReclaimFailed");
    assert!(message.contains("managed:/recordings") && message.contains("reclaimPolicy"), "{message}");
}

#[test]
fn prefix_of_another_owner_has_a_remedy() {
    let mut world = settled(&json!({"storage": external(json!({}))}));
    let store = &mut world.server.as_mut().unwrap().store;
    (store.ok, store.reason) = (false, Some("OwnedByAnother".to_owned()));
    store.message = Some("it belongs to another server, 0123".to_owned());
    world.pass();
    let (status, reason, message) = world.condition("StorageReady");
    assert_eq!((status, reason), ("False", "OwnedByAnother"));
    for words in ["0123", "spec.storage.external.prefix", "exec front-door-0 -c media", "take-over"] {
        assert!(message.contains(words), "{words}: {message}");
    }
}

/// The container of the server, and of the clean-up, with their pods.
fn pods(world: &World) -> [(Value, Value); 2] {
    let pod = world.pod.as_ref().unwrap()["spec"].clone();
    let cron = &world.object(Kind::CronJob, "front-door").unwrap()["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let of = |pod: &Value| (pod["containers"][0].clone(), pod.clone());
    [of(&pod), of(cron)]
}

fn variable(container: &Value, name: &str) -> Option<String> {
    let found = container["env"].as_array().unwrap().iter().find(|one| one["name"] == name)?;
    Some(found["value"].as_str()?.to_owned())
}

fn volume<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let found = pod["volumes"].as_array().unwrap().iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no volume {name}"))
}

#[test]
fn authorities_and_identity_are_mounted() {
    let identity = json!({"roleArn": "arn:aws:iam::1:role/r", "stsEndpoint": "https://sts.example.com"});
    let bundle = json!({"configMapKeyRef": {"name": "ca", "key": "bundle.pem"}});
    let storage = external(json!({"webIdentity": identity, "caBundle": bundle}));
    let annotations = json!({"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"});
    let world = settled(&json!({"storage": storage, "pod": {"serviceAccountAnnotations": annotations}}));
    for (container, pod) in pods(&world) {
        assert_eq!(variable(&container, "AWS_ROLE_ARN").as_deref(), Some("arn:aws:iam::1:role/r"));
        assert_eq!(variable(&container, "AWS_ENDPOINT_URL_STS").as_deref(), Some("https://sts.example.com"));
        let token = variable(&container, "AWS_WEB_IDENTITY_TOKEN_FILE").unwrap();
        let source = &volume(&pod, "store-identity")["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!(source["audience"], "sts.amazonaws.com");
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = |name: &str| mounts.iter().find(|mount| mount["name"] == name).unwrap()["mountPath"].clone();
        let path = source["path"].as_str().unwrap();
        assert_eq!(token, format!("{}/{path}", mount("store-identity").as_str().unwrap()));
        let items = &volume(&pod, "store-ca")["configMap"]["items"];
        assert_eq!(items[0], json!({"key": "bundle.pem", "path": "ca.crt"}));
        assert_eq!(mount("store-ca"), "/etc/streamsession-store-ca", "where `recordings` looks for it");
        assert_eq!(pod["automountServiceAccountToken"], false);
    }
    let args = &pods(&world)[0].0["args"];
    assert!(args.to_string().contains(r#""--store-ca-file","/etc/streamsession-store-ca/ca.crt""#), "{args}");
    let account = world.object(Kind::ServiceAccount, "front-door").unwrap();
    assert_eq!(account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"], "arn:aws:iam::1:role/r");
}

#[test]
fn session_token_is_mounted_where_there_is_one() {
    let world = settled(&json!({"storage": external(json!({"credentialsSecretRef": {"name": "s3"}}))}));
    for (_, pod) in pods(&world) {
        let sources = volume(&pod, "store-credentials")["projected"]["sources"].as_array().unwrap().clone();
        let keys =
            |at: usize| sources[at]["secret"]["items"].as_array().unwrap().iter().map(|item| item["key"].clone());
        assert_eq!(keys(0).collect::<Vec<_>>(), ["accessKeyId", "secretAccessKey"]);
        assert_eq!(keys(1).collect::<Vec<_>>(), ["sessionToken"]);
        let optional = |at: usize| sources[at]["secret"]["optional"].clone();
        assert_eq!((optional(0), optional(1)), (Value::Null, json!(true)), "keys must be there, a token need not");
    }
}

#[test]
fn missing_authorities_of_a_secret_are_reported() {
    let bundle = json!({"secretKeyRef": {"name": "ca", "key": "ca.crt"}});
    let world = World::new(session(&json!({"storage": external(json!({"caBundle": bundle}))})));
    let mut observed = world.observe();
    observed.references.clear();
    let words = ["Secret ca", "spec.storage.external.caBundle.secretKeyRef"];
    super::conditions::tells(&world, &observed, &["StorageReady"], "SecretMissing", &words);
}

#[test]
fn proxies_are_passed_to_stores_elsewhere_alone() {
    for (storage, expected) in [(external(json!({})), Some("http://proxy:3128")), (json!({}), None)] {
        let mut world = World::new(session(&json!({"storage": storage})));
        let https = Some("http://proxy:3128".to_owned());
        world.settings.proxies = Proxies { http: None, https, direct: Some(".svc".to_owned()) };
        world.settle();
        for (container, _) in pods(&world) {
            assert_eq!(variable(&container, "HTTPS_PROXY").as_deref(), expected);
            assert_eq!(variable(&container, "NO_PROXY").is_some(), expected.is_some());
        }
    }
}

#[test]
fn final_job_names_prefix_owner_and_authorities() {
    let bundle = json!({"configMapKeyRef": {"name": "ca", "key": "ca.crt"}});
    let fields = json!({"prefix": "site-2/door", "caBundle": bundle, "credentialsSecretRef": {"name": "s3"}});
    let spec = json!({"recording": {"reclaimPolicy": "Delete"}, "storage": external(fields)});
    let mut world = settled(&spec);
    world.settings.proxies.https = Some("http://proxy:3128".to_owned());
    let observed = world.observe();
    let scene = Scene::new(&world.session, &world.settings, &observed);
    let job = final_job::final_job(&scene, true).unwrap();
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let args: Vec<&str> = container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    for (flag, value) in [
        ("--prefix", "site-2/door/"),
        ("--owner", "owner-of-the-volume"),
        ("--store-ca-file", "/etc/streamsession-store/ca.crt"),
    ] {
        let at = args.iter().position(|word| *word == flag).unwrap_or_else(|| panic!("no {flag}: {args:?}"));
        assert_eq!(args[at + 1], value);
    }
    assert_eq!(variable(container, "HTTPS_PROXY").as_deref(), Some("http://proxy:3128"));
    world.copy = None;
    let copies = world.plan().elsewhere;
    let copy = copies.iter().find_map(|step| match step {
        Elsewhere::Copy(copy) => Some(copy),
        _ => None,
    });
    let copy = copy.expect("the keys are copied");
    assert!(copy.authorities.is_some() && copy.keys.contains(&"sessionToken".to_owned()), "{copy:?}");
}
