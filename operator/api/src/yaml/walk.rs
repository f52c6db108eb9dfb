//! One pass over a YAML text beside the schema: unknown and doubled fields, the number of values, and places.
//!
//! serde_yaml tells the place of an error only while it reads the text, and only of the value that raised it. So the
//! visitors here raise their errors themselves, at the key or value concerned, and leave the reason in `Walk`.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    fmt,
    sync::LazyLock,
};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::{Failure, Location, YamlProblem, syntax};

const MAX_VALUES: usize = 20_000;

/// The schema of the document, with what every Kubernetes object has.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = crate::crd::schema();
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = json!({"type": "object"});
    schema
});

/// Refuses what the schema does not know, and what is too large.
pub(super) fn check(text: &str) -> Result<(), Failure> {
    let walk = Walk::new(None);
    match walk.run(text) {
        Ok(()) => Ok(()),
        Err(error) => {
            let (location, problem) = syntax(text, error);
            Err((location, walk.problem.take().unwrap_or(problem)))
        }
    }
}

/// Where the value at exactly `path` stands.
pub(super) fn locate(text: &str, path: &str) -> Option<Location> {
    let walk = Walk::new(Some(path));
    let (location, _) = syntax(text, walk.run(text).err()?);
    if walk.found.get() { location } else { None }
}

struct Walk<'a> {
    values: Cell<usize>,
    target: Option<&'a str>,
    found: Cell<bool>,
    problem: RefCell<Option<YamlProblem>>,
}

impl<'a> Walk<'a> {
    fn new(target: Option<&'a str>) -> Self {
        Self { values: Cell::new(0), target, found: Cell::new(false), problem: RefCell::new(None) }
    }

    fn run(&self, text: &str) -> Result<(), serde_yaml::Error> {
        let schema = self.target.is_none().then_some(&*SCHEMA);
        Node { walk: self, schema, path: String::new() }.deserialize(serde_yaml::Deserializer::from_str(text))
    }

    fn fail<E: de::Error>(&self, problem: YamlProblem) -> E {
        let error = E::custom(&problem);
        self.problem.replace(Some(problem));
        error
    }
}

/// One value: `schema` is what is known of it, `None` when anything goes.
struct Node<'a> {
    walk: &'a Walk<'a>,
    schema: Option<&'a Value>,
    path: String,
}

impl Node<'_> {
    fn enter<E: de::Error>(&self) -> Result<(), E> {
        let values = self.walk.values.get() + 1;
        self.walk.values.set(values);
        if values > MAX_VALUES {
            let message = format!("more than {MAX_VALUES} values, aliases followed: write them out and fewer");
            return Err(self.walk.fail(YamlProblem::TooLarge(message)));
        }
        if self.walk.target == Some(&self.path) {
            self.walk.found.set(true);
            return Err(E::custom("found"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.enter()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.enter()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.enter()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<(), E> {
        self.enter()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<(), E> {
        self.enter()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.enter()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.enter()
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.enter()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.enter()?;
        let schema = self.schema.and_then(|schema| schema.get("items"));
        for index in 0_usize.. {
            let item = Node { walk: self.walk, schema, path: format!("{}[{index}]", self.path) };
            if items.next_element_seed(item)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.enter()?;
        let properties = self.schema.and_then(|schema| schema.get("properties"));
        let others = self.schema.and_then(|schema| schema.get("additionalProperties"));
        let mut seen = HashSet::new();
        while let Some(name) = entries.next_key_seed(Key { node: &self, properties, seen: &mut seen })? {
            let schema = properties.and_then(|properties| properties.get(&name)).or(others);
            let path = if self.path.is_empty() { name } else { format!("{}.{name}", self.path) };
            entries.next_value_seed(Node { walk: self.walk, schema, path })?;
        }
        Ok(())
    }
}

/// The name of a field of `node`.
struct Key<'a> {
    node: &'a Node<'a>,
    properties: Option<&'a Value>,
    seen: &'a mut HashSet<String>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<String, E> {
        let walk = self.node.walk;
        let parent = || if self.node.path.is_empty() { "the root".to_owned() } else { self.node.path.clone() };
        if let Some(properties) = self.properties.and_then(Value::as_object)
            && !properties.contains_key(name)
        {
            let known: Vec<String> = properties.keys().cloned().collect();
            let nearest = nearest(name, &known);
            return Err(walk.fail(YamlProblem::UnknownField {
                field: name.to_owned(),
                parent: parent(),
                nearest,
                known,
            }));
        }
        if !self.seen.insert(name.to_owned()) {
            return Err(walk.fail(YamlProblem::DuplicateField { field: name.to_owned(), parent: parent() }));
        }
        Ok(name.to_owned())
    }
}

/// The known name that `written` is likely a slip of.
fn nearest(written: &str, known: &[String]) -> Option<String> {
    let lower = written.to_lowercase();
    let (distance, name) = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= (written.len() / 3).max(1)).then(|| name.clone())
}
