//! The Secrets that the operator makes: made once and kept; those of relay and admin API are made anew from time to
//! time.
//!
//! A value that is replaced stays beside the new one (`….previous`) for as long as somebody may still come with it, and
//! is then removed. A Secret is never listed, watched or deleted. Each write names the version that it was planned on,
//! so that of two operators only one rotates.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use ring::hmac;
use serde_json::{Value, json};
use streamsession_api::{AuthMode, StorageMode, StreamSession, TurnMode};

use super::{claim, metadata, owners_patch};
use crate::plan::{
    Apply, Child, Kind, OwnSecret, Random, TOKEN, TOKEN_PREVIOUS, Write, compare, hash,
    names::{self, Belongs},
    scene::Scene,
};

const MINUTE: Duration = Duration::from_secs(60);

/// How a Secret is made and kept.
struct Recipe {
    name: String,
    component: &'static str,
    /// Keys, and how many of their digits are taken; 64 is all 256 bits.
    keys: &'static [(&'static str, usize)],
    rotation: Option<Rotation>,
    /// It is needed to read what is kept, so it stays as long as that.
    outlives: bool,
}

/// How a value is replaced: the first of the keys.
struct Rotation {
    previous: &'static str,
    overlap: Duration,
}

/// What happens to Secrets in this pass.
#[derive(Default)]
pub(super) struct SecretWrites {
    pub(super) apply: Vec<Apply>,
    /// Names of those that are made anew.
    pub(super) rotated: Vec<String>,
    /// Names that somebody else has.
    pub(super) taken: Vec<Child>,
    /// One of an earlier session is still to be collected.
    pub(super) predecessor: bool,
}

/// Names of the Secrets that a session needs.
pub(crate) fn own(session: &StreamSession) -> Vec<String> {
    recipes(session).into_iter().map(|recipe| recipe.name).collect()
}

/// Whether the server checks tokens with a secret that the operator makes.
pub(crate) fn makes_keys(session: &StreamSession) -> bool {
    let auth = &session.spec.auth;
    auth.mode == AuthMode::Jwt && auth.jwks.is_none() && auth.secret_ref.is_none()
}

fn recipes(session: &StreamSession) -> Vec<Recipe> {
    let name = session.metadata.name.as_deref().unwrap_or_default();
    let spec = &session.spec;
    let rotating = |name, component, keys, previous, overlap| Recipe {
        name,
        component,
        keys,
        rotation: Some(Rotation { previous, overlap }),
        outlives: false,
    };
    let mut recipes = vec![rotating(names::admin(name), "admin", &[(TOKEN, 64)], TOKEN_PREVIOUS, 10 * MINUTE)];
    if makes_keys(session) {
        recipes.push(Recipe {
            name: names::keys(name),
            component: "auth",
            keys: &[("secret", 64)],
            rotation: None,
            outlives: false,
        });
    }
    if spec.turn.mode == TurnMode::Managed {
        // Whoever was given credentials just before may come with them until they expire.
        let overlap = spec.turn.credential_ttl.as_duration() + 10 * MINUTE;
        recipes.push(rotating(names::turn(name), "turn", &[("secret", 64)], "secret.previous", overlap));
    }
    if spec.storage.mode == StorageMode::Managed {
        recipes.push(Recipe {
            name: names::store(name),
            component: "store",
            keys: &[("accessKeyId", 20), ("secretAccessKey", 40)],
            rotation: None,
            outlives: true,
        });
    }
    recipes
}

pub(super) fn secrets(scene: &Scene<'_>, random: Random) -> SecretWrites {
    let mut writes = SecretWrites::default();
    for recipe in recipes(scene.session) {
        let child = Child { kind: Kind::Secret, name: recipe.name.clone() };
        let Some(seen) = scene.observed.secrets.get(&recipe.name) else {
            writes.apply.push(Apply { child, write: Write::Create, object: made(scene, &recipe, random) });
            continue;
        };
        let object = serde_json::to_value(&seen.0).expect("a Secret is JSON");
        match names::belongs(&object, scene.session) {
            Belongs::Stranger => writes.taken.push(child),
            Belongs::Predecessor => writes.predecessor = true,
            Belongs::Ours => {
                let rotates = due(scene, &recipe, seen);
                let wanted = kept(scene, &recipe, seen, &object, rotates, random);
                if compare::holds(&object, &wanted) {
                    continue;
                }
                if rotates {
                    writes.rotated.push(recipe.name.clone());
                }
                let apply = claim::merge(scene, child, &object, wanted).map(|mut apply| {
                    apply.object["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
                    apply
                });
                writes.apply.extend(apply);
            }
        }
    }
    writes
}

fn goes(scene: &Scene<'_>, recipe: &Recipe) -> bool {
    !recipe.outlives || claim::goes_with_the_session(scene)
}

/// The Secret as it is created.
fn made(scene: &Scene<'_>, recipe: &Recipe, random: Random) -> Value {
    let mut metadata = metadata(scene, recipe.name.clone(), recipe.component);
    if !goes(scene, recipe) {
        metadata.owner_references = None;
    }
    if recipe.rotation.is_some() {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(names::ROTATED_AT.to_owned(), stamp(scene.observed.now));
        if let Some(request) = request(scene) {
            annotations.insert(names::ROTATE_SECRETS.to_owned(), request.to_owned());
        }
    }
    let data = recipe
        .keys
        .iter()
        .map(|&(key, digits)| (key.to_owned(), ByteString(value(random, &recipe.name, key, digits).into_bytes())));
    let secret = Secret { metadata, type_: Some("Opaque".to_owned()), data: Some(data.collect()), ..Secret::default() };
    serde_json::to_value(secret).expect("a Secret is JSON")
}

/// What is to be said of a Secret that is there, as a merge patch.
fn kept(scene: &Scene<'_>, recipe: &Recipe, seen: &OwnSecret, object: &Value, rotates: bool, random: Random) -> Value {
    let mut wanted = json!({"metadata": {"labels": names::labels(&scene.name, recipe.component)}});
    if let Some(owners) = owners_patch(scene, object, goes(scene, recipe)) {
        wanted["metadata"]["ownerReferences"] = owners;
    }
    let fresh = |key, digits| json!(ByteString(value(random, &recipe.name, key, digits).into_bytes()));
    for &(key, digits) in recipe.keys {
        if seen.value(key).is_none() {
            wanted["data"][key] = fresh(key, digits);
        }
    }
    let (Some(rotation), &[(key, digits), ..]) = (&recipe.rotation, recipe.keys) else { return wanted };
    if rotates {
        wanted["data"][key] = fresh(key, digits);
        wanted["data"][rotation.previous] = object["data"][key].clone();
        wanted["metadata"]["annotations"][names::ROTATED_AT] = json!(stamp(scene.observed.now));
        if let Some(request) = request(scene) {
            wanted["metadata"]["annotations"][names::ROTATE_SECRETS] = json!(request);
        }
    } else if !object["data"][rotation.previous].is_null() && age(scene, seen) > rotation.overlap {
        wanted["data"][rotation.previous] = Value::Null;
    }
    wanted
}

/// Whether it is time for a new value.
fn due(scene: &Scene<'_>, recipe: &Recipe, seen: &OwnSecret) -> bool {
    let Some(rotation) = &recipe.rotation else { return false };
    let honoured = annotation(seen, names::ROTATE_SECRETS);
    let asked = request(scene).is_some_and(|request| honoured != Some(request));
    // Not by age while the value before is still good for somebody: only one is kept.
    let old = |after: Duration| age(scene, seen) >= after.max(rotation.overlap);
    asked || scene.settings.rotate_secrets_after.is_some_and(old)
}

fn age(scene: &Scene<'_>, seen: &OwnSecret) -> Duration {
    let created = seen.0.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let since = annotation(seen, names::ROTATED_AT).and_then(|text| text.parse().ok()).or(created);
    Duration::from_secs(since.map_or(0, |since| scene.seconds_since(since)))
}

fn annotation<'a>(seen: &'a OwnSecret, key: &str) -> Option<&'a str> {
    seen.0.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// What the session's annotation asks for.
fn request<'a>(scene: &Scene<'a>) -> Option<&'a str> {
    scene.session.metadata.annotations.as_ref()?.get(names::ROTATE_SECRETS).map(String::as_str)
}

fn stamp(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// A value of its own for each name and key: HMAC-SHA-256 under the plan's randomness, `digits` hexadecimal digits of it.
fn value(random: Random, name: &str, key: &str, digits: usize) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &random.0), format!("{name}/{key}").as_bytes());
    let mut text = hash::hex(tag.as_ref());
    text.truncate(digits);
    text
}
