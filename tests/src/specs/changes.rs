//! Cases: good specs with one or several fields changed, and specs that are made up as a whole.
//!
//! A field below a group that is not there is changed together with it, and with the mode that the group goes with; so what
//! is tried is the field, not the absence of what is around it.

use super::schema::{Field, Form, Path, Step, form};
use super::values::{least_group, value};
use super::{Sort, Specs, Verdict};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};
use std::fmt;

/// A spec to try.
#[derive(Clone, Debug)]
pub struct Case {
    /// It is made from this alone.
    pub seed: u64,
    /// What makes it differ from a good spec, in order.
    pub changes: Vec<Change>,
    /// The spec, as it is sent: neither pruned nor with its defaults.
    pub spec: Value,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}", self.seed)?;
        for change in &self.changes {
            write!(f, ", {change}")?;
        }
        Ok(())
    }
}

/// One change of a spec.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where.
    pub path: Path,
    /// What is put there; `None` when it is taken away.
    pub value: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.0.is_empty() { "the whole spec".to_owned() } else { self.path.to_string() };
        let Some(value) = &self.value else { return write!(f, "{path} removed") };
        let text = value.to_string();
        match text.char_indices().nth(120) {
            Some((end, _)) => write!(f, "{path} = {}… ({} characters)", &text[..end], text.len()),
            None => write!(f, "{path} = {text}"),
        }
    }
}

/// How often it is tried to break a certain rule.
const ATTEMPTS: usize = 100;
/// A name that no field has.
const UNKNOWN: &str = "mystery";

impl Specs {
    /// `base` with so many fields changed.
    pub(super) fn changed(&self, seed: u64, base: Value, count: usize, random: &mut StdRng) -> Case {
        let (mut spec, mut changes) = (base, Vec::new());
        for _ in 0..count {
            let field = self.some_field(random);
            let change = self.change(field, random);
            self.put(&mut spec, &change, random);
            changes.push(change);
        }
        Case { seed, changes, spec }
    }

    /// A whole spec of values of this sort, where the definition knows sorts.
    pub(super) fn made_up(&self, seed: u64, sort: Sort, random: &mut StdRng) -> Case {
        let spec = value(self.definition, &Path::default(), self.definition.spec, sort, random);
        let change = Change { path: Path::default(), value: Some(spec.clone()) };
        Case { seed, changes: vec![change], spec }
    }

    /// A good spec with those fields changed that a rule names, until the rule says no; rules take turns.
    pub(super) fn breaking(&self, seed: u64, random: &mut StdRng) -> Case {
        let rule = &self.definition.rules[(seed / 10) as usize % self.definition.rules.len()];
        let mut case = Case { seed, changes: Vec::new(), spec: Value::Null };
        for _ in 0..ATTEMPTS {
            (case.spec, case.changes) = (self.base(random), Vec::new());
            for _ in 0..random.random_range(1..=2) {
                let field = &self.definition.fields[rule.fields[random.random_range(0..rule.fields.len())]];
                let change = self.change(field, random);
                self.put(&mut case.spec, &change, random);
                case.changes.push(change);
            }
            if matches!(self.verdict(&case.spec), Verdict::Refused(messages) if messages.contains(&rule.message)) {
                break;
            }
        }
        case
    }

    /// The scheduler's fields are as many as all others, and are Kubernetes' own: they are changed two times in five.
    fn some_field(&self, random: &mut StdRng) -> &Field {
        let foreign = random.random_bool(0.4);
        let fields = &self.definition.fields;
        let affinity = Path::of("pod.affinity");
        let first = fields.iter().position(|field| field.path.within(&affinity)).unwrap_or(0);
        let after = fields.iter().rposition(|field| field.path.within(&affinity)).map_or(0, |last| last + 1);
        if foreign {
            return &fields[random.random_range(first..after)];
        }
        let index = random.random_range(0..fields.len() - (after - first));
        &fields[if index < first { index } else { index + (after - first) }]
    }

    fn change(&self, field: &Field, random: &mut StdRng) -> Change {
        let path = field.path.clone();
        let put = |value| Change { path: path.clone(), value: Some(value) };
        match random.random_range(0..20) {
            0 => Change { path, value: None },
            1 => put(Value::Null),
            2 if field.form == Form::Group => {
                Change { path: path.and(Step::Field(UNKNOWN.to_owned())), value: Some(json!(1)) }
            }
            2..8 => put(self.value(&path, field.schema, Sort::Valid, random)),
            8..14 => put(self.value(&path, field.schema, Sort::Boundary, random)),
            _ => put(self.value(&path, field.schema, Sort::Invalid, random)),
        }
    }

    /// Carries a change out, with all that has to be there for it.
    fn put(&self, spec: &mut Value, change: &Change, random: &mut StdRng) {
        if change.value.is_some() {
            for gate in &self.definition.gates {
                if change.path.within(&gate.group) && change.path != gate.group {
                    let mode = Change { path: gate.mode.clone(), value: Some(json!(gate.value)) };
                    self.put(spec, &mode, random);
                }
            }
        }
        let (mut place, mut schema, mut path) = (spec, self.definition.spec, Path::default());
        let Some((last, before)) = change.path.0.split_last() else { return };
        for step in before {
            path = path.and(step.clone());
            schema = below(schema, step);
            let Some(inner) = enter(place, step, change.value.is_some()) else { return };
            let right = if form(schema) == Form::List { inner.is_array() } else { inner.is_object() };
            if !right {
                *inner = match form(schema) {
                    Form::List => json!([]),
                    _ => least_group(self.definition, &path, schema, random),
                };
            }
            place = inner;
        }
        match (last, &change.value) {
            (Step::Field(name), None) => {
                if let Some(object) = place.as_object_mut() {
                    object.remove(name);
                }
            }
            (Step::Item, None) => {
                if let Some(items) = place.as_array_mut() {
                    items.pop();
                }
            }
            (Step::Entry, None) => {
                if let Some(object) = place.as_object_mut() {
                    object.clear();
                }
            }
            (step, Some(value)) => {
                if let Some(inner) = enter(place, step, true) {
                    *inner = value.clone();
                }
            }
        }
    }
}

/// The schema one step further; null where it knows nothing.
fn below<'a>(schema: &'a Value, step: &Step) -> &'a Value {
    match step {
        Step::Field(name) => &schema["properties"][name],
        Step::Item => &schema["items"],
        Step::Entry => &schema["additionalProperties"],
    }
}

/// The value one step further; made when it is not there and `make` says so.
fn enter<'a>(place: &'a mut Value, step: &Step, make: bool) -> Option<&'a mut Value> {
    let key = match step {
        Step::Item => {
            if make && !place.is_array() {
                *place = json!([]);
            }
            let items = place.as_array_mut()?;
            if items.is_empty() && make {
                items.push(Value::Null);
            }
            return items.first_mut();
        }
        Step::Field(name) => name.as_str(),
        Step::Entry => "example.com/zone",
    };
    if make && !place.is_object() {
        *place = Map::new().into();
    }
    let object = place.as_object_mut()?;
    if make { Some(object.entry(key).or_insert(Value::Null)) } else { object.get_mut(key) }
}
