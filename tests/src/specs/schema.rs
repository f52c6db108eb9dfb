//! The definition in crds/, read: its fields, and what its CEL rules say about bounds and about groups that go with a mode.
//!
//! Of CEL no more is understood than what our rules look like: bounds as `duration('1h')`, `quantity('1Gi')` and
//! `self.PATH >= 1`, and groups as `has(self.GROUP) == (self.MODE == 'Value')`. A rule of another look is still obeyed, by
//! [`verdict`](super::verdict); it only lends no values at its bounds.

use serde_json::Value;
use std::fmt;
use std::sync::LazyLock;

const YAML: &str = include_str!("../../../crds/streamsessions.media.streamsession.io.yaml");

/// One step of a path below the spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A field by name.
    Field(String),
    /// Any item of a list.
    Item,
    /// Any entry of a map with free keys.
    Entry,
}

/// Path of a field below the spec. Shown as `exposure.announce[]`, `pod.nodeSelector{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The path one step further.
    pub fn and(&self, step: Step) -> Path {
        let mut steps = self.0.clone();
        steps.push(step);
        Path(steps)
    }

    /// Of fields alone: `turn.external`.
    pub fn of(text: &str) -> Path {
        Path(text.split('.').map(|name| Step::Field(name.to_owned())).collect())
    }

    /// Name of the last field on it.
    pub fn name(&self) -> &str {
        let fields = self.0.iter().rev().find_map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            Step::Item | Step::Entry => None,
        });
        fields.unwrap_or_default()
    }

    /// Whether it lies at or below `other`.
    pub fn within(&self, other: &Path) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if index == 0 => write!(f, "{name}")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item => write!(f, "[]")?,
                Step::Entry => write!(f, "{{}}")?,
            }
        }
        Ok(())
    }
}

/// What stands at a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Fields by name.
    Group,
    /// Items of one form.
    List,
    /// Entries with free keys.
    Map,
    /// One value.
    Leaf,
}

/// One field of a spec.
#[derive(Clone, Debug)]
pub struct Field {
    /// Where.
    pub path: Path,
    /// What stands there.
    pub form: Form,
    /// What the definition says of it.
    pub schema: &'static Value,
}

/// A group that is there exactly when a mode has a value.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) group: Path,
    pub(super) mode: Path,
    pub(super) value: String,
}

/// A bound that a rule of the spec sets to one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Of a duration, as it is written.
    Duration(String),
    /// Of a quantity, as it is written.
    Quantity(String),
    /// The least integer.
    Least(i64),
}

/// A rule about the spec, or about values of fields.
pub(super) struct Rule {
    pub(super) message: String,
    /// The fields that it names or applies to, as indices of the definition's fields.
    pub(super) fields: Vec<usize>,
}

/// What the definition says.
pub(super) struct Definition {
    /// Of the whole object.
    pub(super) root: &'static Value,
    /// Of the spec.
    pub(super) spec: &'static Value,
    pub(super) fields: Vec<Field>,
    pub(super) gates: Vec<Gate>,
    pub(super) bounds: Vec<(Path, Bound)>,
    pub(super) rules: Vec<Rule>,
    /// Of rules about the spec and about values in it, each once.
    pub(super) messages: Vec<String>,
}

/// The definition in crds/.
pub(super) fn definition() -> &'static Definition {
    static DEFINITION: LazyLock<Definition> = LazyLock::new(|| read(&ROOT));
    &DEFINITION
}

static ROOT: LazyLock<Value> = LazyLock::new(|| {
    let crd: Value = serde_yaml::from_str(YAML).expect("the definition in crds/ is YAML");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
});

fn read(root: &'static Value) -> Definition {
    let spec = &root["properties"]["spec"];
    let mut definition = Definition {
        root,
        spec,
        fields: Vec::new(),
        gates: Vec::new(),
        bounds: Vec::new(),
        rules: Vec::new(),
        messages: Vec::new(),
    };
    walk(&mut definition, spec, Path::default());
    for rule in list(spec, "x-kubernetes-validations") {
        let (Some(cel), Some(path)) = (rule["rule"].as_str(), rule["fieldPath"].as_str()) else { continue };
        let path = Path::of(path.trim_start_matches('.'));
        definition.gates.extend(gate(cel));
        let found = quoted(cel, "duration('").into_iter().map(Bound::Duration);
        let found = found.chain(quoted(cel, "quantity('").into_iter().map(Bound::Quantity));
        let found: Vec<Bound> = found.chain(least(cel, &path).map(Bound::Least)).collect();
        definition.bounds.extend(found.into_iter().map(|bound| (path.clone(), bound)));
        let message = rule["message"].as_str().unwrap_or_default().to_owned();
        let fields = named(&definition.fields, cel);
        definition.rules.push(Rule { message, fields });
    }
    definition.messages.sort();
    definition.messages.dedup();
    definition
}

fn walk(definition: &mut Definition, schema: &'static Value, path: Path) {
    let rules = list(schema, "x-kubernetes-validations");
    definition.messages.extend(rules.filter_map(|rule| Some(rule["message"].as_str()?.to_owned())));
    let form = form(schema);
    if !path.0.is_empty() {
        for rule in list(schema, "x-kubernetes-validations") {
            let (message, field) = (rule["message"].as_str().unwrap_or_default(), definition.fields.len());
            match definition.rules.iter_mut().find(|known| known.message == message) {
                Some(known) => known.fields.push(field),
                None => definition.rules.push(Rule { message: message.to_owned(), fields: vec![field] }),
            }
        }
        definition.fields.push(Field { path: path.clone(), form, schema });
    }
    match form {
        Form::Group => {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                walk(definition, field, path.and(Step::Field(name.clone())));
            }
        }
        Form::List => walk(definition, &schema["items"], path.and(Step::Item)),
        Form::Map => walk(definition, &schema["additionalProperties"], path.and(Step::Entry)),
        Form::Leaf => {}
    }
}

/// What stands at a field of this schema.
pub(super) fn form(schema: &Value) -> Form {
    match schema["type"].as_str() {
        Some("object") if schema["additionalProperties"].is_object() => Form::Map,
        Some("object") => Form::Group,
        Some("array") => Form::List,
        _ => Form::Leaf,
    }
}

/// The items of a list in a schema; none when it is absent.
pub(super) fn list<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    schema[name].as_array().into_iter().flatten()
}

/// The fields that a rule names as `self.PATH`, the method that may follow left out.
fn named(fields: &[Field], cel: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for rest in cel.split("self.").skip(1) {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
        let mut text = &rest[..end];
        while !text.is_empty() {
            let path = Path::of(text);
            if let Some(index) = fields.iter().position(|field| field.path == path) {
                found.push(index);
                break;
            }
            text = text.rsplit_once('.').map_or("", |(before, _)| before);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// `has(self.GROUP) == (self.MODE == 'Value')`
fn gate(cel: &str) -> Option<Gate> {
    let (group, rest) = cel.strip_prefix("has(self.")?.split_once(") == (self.")?;
    let (mode, value) = rest.strip_suffix("')")?.split_once(" == '")?;
    Some(Gate { group: Path::of(group), mode: Path::of(mode), value: value.to_owned() })
}

/// What stands between `open` and the next quote, each time.
fn quoted(cel: &str, open: &str) -> Vec<String> {
    cel.split(open).skip(1).filter_map(|rest| Some(rest.split_once('\'')?.0.to_owned())).collect()
}

/// `self.PATH >= 1`
fn least(cel: &str, path: &Path) -> Option<i64> {
    let (_, rest) = cel.split_once(&format!("self.{path} >= "))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
