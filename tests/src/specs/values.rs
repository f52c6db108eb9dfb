//! Values for a field, by what the definition says of it: good ones, those at its bounds, and wrong ones.
//!
//! What a text is for is seen by the field's name; where no name tells, by nothing: then it is any word. Lists, maps and
//! groups of any depth are made of such values, and stay small.

use super::schema::{Bound, Definition, Form, Path, Step, form, list};
use super::{Sort, Specs};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};

/// Texts that programs stumble over: in YAML, in a command line, in a URL, in a pod's variables.
const ODD: [&str; 22] = [
    "",
    " ",
    "null",
    "true",
    "1e3",
    "0x10",
    "~",
    "- a",
    "a: b",
    "# a",
    "'",
    "\"",
    "line\nbreak",
    "tab\there",
    "{}",
    "$(POD_IP)",
    "--help",
    "a/b",
    "../configmaps/a",
    "a?b=c%20d#e",
    "ÄÖ😀",
    "\u{7f}",
];

impl Specs {
    /// A value for a field.
    pub(super) fn value(&self, path: &Path, schema: &Value, sort: Sort, random: &mut StdRng) -> Value {
        value(self.definition, path, schema, sort, random)
    }
}

/// A value for what `schema` says, at `path`.
pub(super) fn value(definition: &Definition, path: &Path, schema: &Value, sort: Sort, random: &mut StdRng) -> Value {
    if sort == Sort::Invalid && random.random_bool(0.3) {
        return of_another_type(schema, random);
    }
    match form(schema) {
        Form::Leaf => {
            let values = leaf(definition, path, schema, sort);
            values.choose(random).cloned().unwrap_or(Value::Null)
        }
        Form::List => items(definition, path, schema, sort, random),
        Form::Map => entries(definition, path, schema, sort, random),
        Form::Group => group(definition, path, schema, sort, random),
    }
}

fn of_another_type(schema: &Value, random: &mut StdRng) -> Value {
    let values = [json!("text"), json!(7), json!(1.5), json!(true), json!([]), json!(["text"]), json!({}), Value::Null];
    let own = |value: &&Value| match schema["type"].as_str() {
        Some("string") => !value.is_string(),
        Some("integer") => !value.is_i64(),
        Some("boolean") => !value.is_boolean(),
        Some("array") => !value.is_array(),
        Some("object") => !value.is_object(),
        _ => !value.is_string() && !value.is_i64(),
    };
    let others: Vec<&Value> = values.iter().filter(own).collect();
    others.choose(random).map_or(Value::Null, |value| (*value).clone())
}

fn items(definition: &Definition, path: &Path, schema: &Value, sort: Sort, random: &mut StdRng) -> Value {
    let most = schema["maxItems"].as_u64().unwrap_or(3);
    let count = match sort {
        Sort::Valid => random.random_range(0..=most.min(3)),
        Sort::Boundary => *[0, 1, most, most + 1].choose(random).unwrap_or(&0),
        Sort::Invalid => random.random_range(1..=2),
    };
    // A list that is long has good items: its length is what is tried.
    let inner = if sort == Sort::Boundary { Sort::Valid } else { sort };
    let path = path.and(Step::Item);
    (0..count).map(|_| value(definition, &path, &schema["items"], inner, random)).collect()
}

fn entries(definition: &Definition, path: &Path, schema: &Value, sort: Sort, random: &mut StdRng) -> Value {
    let good = ["disk", "example.com/zone", "cpu", "memory"];
    let odd = ["", "a b", "Ä", "/", "example.com/a/b", &"k".repeat(64)];
    let count =
        if sort == Sort::Boundary { *[0, 1, 8].choose(random).unwrap_or(&0) } else { random.random_range(0..=2) };
    let path = path.and(Step::Entry);
    let mut map = Map::new();
    for number in 0..count {
        let key = match sort {
            Sort::Valid => good.choose(random).map_or_else(String::new, |key| (*key).to_owned()),
            Sort::Boundary => format!("example.com/{number}"),
            Sort::Invalid => odd.choose(random).map_or_else(String::new, |key| (*key).to_owned()),
        };
        map.insert(key, value(definition, &path, &schema["additionalProperties"], sort, random));
    }
    map.into()
}

fn group(definition: &Definition, path: &Path, schema: &Value, sort: Sort, random: &mut StdRng) -> Value {
    let required: Vec<&str> = list(schema, "required").filter_map(Value::as_str).collect();
    let mut map = Map::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let (chance, inner) = match sort {
            Sort::Valid => (0.4, Sort::Valid),
            // With what is needed and nothing else, or with everything.
            Sort::Boundary => (if random.random_bool(0.5) { 1.0 } else { 0.0 }, Sort::Valid),
            Sort::Invalid => (0.4, if random.random_bool(0.2) { Sort::Invalid } else { Sort::Valid }),
        };
        let needed = required.contains(&name.as_str()) && !(sort == Sort::Invalid && random.random_bool(0.3));
        if needed || random.random_bool(chance) {
            let path = path.and(Step::Field(name.clone()));
            map.insert(name.clone(), value(definition, &path, field, inner, random));
        }
    }
    map.into()
}

/// What a group cannot be without, and nothing else.
pub(super) fn least_group(definition: &Definition, path: &Path, schema: &Value, random: &mut StdRng) -> Value {
    let mut map = Map::new();
    for name in list(schema, "required").filter_map(Value::as_str) {
        let path = path.and(Step::Field(name.to_owned()));
        let field = &schema["properties"][name];
        let value = match form(field) {
            Form::List => json!([value(definition, &path.and(Step::Item), &field["items"], Sort::Valid, random)]),
            _ => value(definition, &path, field, Sort::Valid, random),
        };
        map.insert(name.to_owned(), value);
    }
    map.into()
}

/// Every value of this sort that is tried at a leaf.
pub(super) fn leaf(definition: &Definition, path: &Path, schema: &Value, sort: Sort) -> Vec<Value> {
    let bounds = definition.bounds.iter().filter(|(at, _)| at == path).map(|(_, bound)| bound);
    if let Some(values) = schema["enum"].as_array() {
        return match sort {
            Sort::Valid | Sort::Boundary => values.clone(),
            Sort::Invalid => {
                let words = values.iter().filter_map(Value::as_str);
                let near = words.flat_map(|word| [word.to_lowercase(), format!("{word} "), word.to_uppercase() + "S"]);
                near.chain([String::new()]).map(Value::from).collect()
            }
        };
    }
    match (schema["type"].as_str(), scalar(schema)) {
        (Some("boolean"), _) if sort == Sort::Invalid => vec![json!("true"), json!("yes"), json!(1)],
        (Some("boolean"), _) => vec![json!(true), json!(false)],
        (Some("integer" | "number"), _) => integers(path, schema, sort, bounds),
        (_, Some(Scalar::Duration)) => durations(sort, bounds),
        (_, Some(Scalar::KeepFree)) => texts(match sort {
            Sort::Valid => &["10%", "5Gi", "1.5T"],
            Sort::Boundary => &["0%", "90%", "9%", "89%", "0k", "999999999999999.999Ti", "1Ki"],
            Sort::Invalid => &["91%", "-1%", "07%", "10", "%", "", "1.5%", "5GB", "1.2345Gi"],
        }),
        (_, Some(Scalar::Quantity)) => quantities(sort, bounds),
        (Some("string"), None) => strings(path, schema, sort),
        _ => match sort {
            Sort::Valid => vec![json!("500m"), json!("1Gi"), json!("2"), json!(1), json!("1.5"), json!("256Mi")],
            Sort::Boundary => {
                vec![json!(0), json!("0"), json!("0.1m"), json!("1e3"), json!("8Ei"), json!(i64::MAX), json!("1n")]
            }
            Sort::Invalid => {
                vec![json!("-1"), json!(-1), json!(""), json!("abc"), json!("1 Gi"), json!(1.5), json!("1e99")]
            }
        },
    }
}

fn texts(words: &[&str]) -> Vec<Value> {
    words.iter().map(|word| json!(word)).collect()
}

/// Words with a unit, known by the form that their own rule asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scalar {
    Duration,
    Quantity,
    KeepFree,
}

fn scalar(schema: &Value) -> Option<Scalar> {
    let rule = list(schema, "x-kubernetes-validations").find_map(|rule| rule["rule"].as_str())?;
    match rule {
        _ if rule.contains('%') => Some(Scalar::KeepFree),
        _ if rule.contains("ms|") => Some(Scalar::Duration),
        _ if rule.contains("Ki") => Some(Scalar::Quantity),
        _ => None,
    }
}

fn integers<'a>(path: &Path, schema: &Value, sort: Sort, bounds: impl Iterator<Item = &'a Bound>) -> Vec<Value> {
    let bound = |name: &str, else_: f64| schema[name].as_f64().unwrap_or(else_) as i64;
    let (small, large) = match schema["format"].as_str() {
        Some("int32") => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => (-9_007_199_254_740_992.0, 9_007_199_254_740_992.0),
    };
    let (least, most) = (bound("minimum", small), bound("maximum", large));
    match sort {
        // Of a port for nodes, one that nodes have.
        Sort::Valid if path.name() == "nodePort" => vec![json!(30_507), json!(31_189), json!(32_000)],
        Sort::Valid => vec![json!(1), json!(2), json!(100), json!(8190)],
        Sort::Boundary => {
            let beside = bounds.filter_map(|bound| match bound {
                Bound::Least(least) => Some([least - 1, *least, least + 1]),
                _ => None,
            });
            [least, least + 1, most - 1, most].into_iter().chain(beside.flatten()).map(|number| json!(number)).collect()
        }
        Sort::Invalid => vec![
            json!(least.saturating_sub(1)),
            json!(most.saturating_add(1)),
            json!(1.5),
            json!("8"),
            json!(u64::MAX),
            json!(1e30),
            json!(i64::MIN),
        ],
    }
}

fn durations<'a>(sort: Sort, bounds: impl Iterator<Item = &'a Bound>) -> Vec<Value> {
    match sort {
        Sort::Valid => texts(&["2s", "10s", "1m", "60s", "1500ms", "30s"]),
        Sort::Boundary => {
            let mut values =
                texts(&["0s", "0ms", "1d", "7d", "99999d", "99999h", "999999m", "0h0m0s1ms", "1m1m1m1m", "1h0s"]);
            for bound in bounds {
                let Bound::Duration(text) = bound else { continue };
                let Some(milliseconds) = milliseconds(text) else { continue };
                let near = [milliseconds.saturating_sub(1), milliseconds, milliseconds + 1];
                values.extend(near.into_iter().filter_map(written).map(Value::from));
            }
            values
        }
        Sort::Invalid => texts(&[
            "",
            "10",
            "s",
            "10 s",
            "10S",
            "-1s",
            "1.5h",
            "0d",
            "01d",
            "1d12h",
            "1h2h3h4h5h",
            "100000h",
            "9999999s",
            "100000d",
            "１s",
            "1us",
        ]),
    }
}

/// Of a duration that our rules name as a bound.
fn milliseconds(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..end].parse().ok()?;
    let unit = match &text[end..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// A duration as a spec writes it; `None` when it has no room for it.
fn written(milliseconds: u64) -> Option<String> {
    let (hours, rest) = (milliseconds / 3_600_000, milliseconds % 3_600_000);
    (hours < 100_000).then(|| format!("{hours}h{}m{}s{}ms", rest / 60_000, rest / 1_000 % 60, rest % 1_000))
}

fn quantities<'a>(sort: Sort, bounds: impl Iterator<Item = &'a Bound>) -> Vec<Value> {
    match sort {
        Sort::Valid => {
            vec![json!("20Gi"), json!("30G"), json!("21474836480"), json!(21_474_836_480_u64), json!("1.5Ti")]
        }
        Sort::Boundary => {
            let mut values = vec![
                json!(0),
                json!("0"),
                json!("999999999999999Ti"),
                json!("999999999999999.999"),
                json!("000000000000020Gi"),
                json!(999_999_999_999_999_u64),
            ];
            for bound in bounds {
                let Bound::Quantity(text) = bound else { continue };
                let Some(number) = number(text) else { continue };
                values.extend([number - 1, number, number + 1].map(|number| json!(number)));
                values.extend([json!(text), json!(format!("{number}")), json!(format!("{}Ki", number / 1024))]);
                values.push(json!(format!("{}.999k", number / 1000 - 1)));
            }
            values
        }
        Sort::Invalid => vec![
            json!(""),
            json!("8MB"),
            json!("-1"),
            json!(-1),
            json!("1e3"),
            json!(".5"),
            json!("1."),
            json!("1.2345"),
            json!("8m"),
            json!("8K"),
            json!(1.5),
            json!("1Pi"),
            json!(1_000_000_000_000_000_u64),
        ],
    }
}

/// Of a quantity that our rules name as a bound.
fn number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let unit = match &text[end..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

fn strings(path: &Path, schema: &Value, sort: Sort) -> Vec<Value> {
    let (good, bad) = words(path.name());
    let most = schema["maxLength"].as_u64().map(|most| most as usize);
    let least = schema["minLength"].as_u64().unwrap_or(0) as usize;
    match sort {
        Sort::Valid => texts(good),
        Sort::Boundary => {
            // Good words of any length, as long as a good one goes on with letters.
            let lengths = [
                least.checked_sub(1),
                Some(least),
                Some(least + 1),
                most.map(|most| most - 1),
                most,
                Some(63),
                Some(64),
                Some(253),
            ];
            let words = lengths.into_iter().flatten().map(|length| stretched(good[0], length));
            words.chain(most.is_none().then(|| "a".repeat(4096))).map(Value::from).collect()
        }
        Sort::Invalid => {
            let long = most.map(|most| stretched(good[0], most + 1));
            texts(bad).into_iter().chain(texts(&ODD)).chain(long.map(Value::from)).collect()
        }
    }
}

/// The word, cut or with more letters, so that it has so many characters.
fn stretched(word: &str, length: usize) -> String {
    word.chars().chain(std::iter::repeat('a')).take(length).collect()
}

/// Good words and bad ones for what a field of this name is for.
fn words(name: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match name {
        "announce" => (
            &["203.0.113.7", "203.0.113.7:31189", "[2001:db8::7]:31189", "2001:db8::7"],
            &[
                "cams.example.com",
                "203.0.113",
                "203.0.113.7:0",
                "203.0.113.7:65536",
                "999.0.0.1:1",
                "[::1]",
                "[:::]:1",
                "1.2.3.4/24",
                "::ffff:1.2.3.4",
                "fe80::1%eth0",
                "01.2.3.4",
            ],
        ),
        "host" => (
            &["cams.example.com", "cams", "a-b.example.com"],
            &[
                "https://cams.example.com",
                "CAMS.example.com",
                "-a",
                "a-",
                "*.example.com",
                "a..b",
                "a_b",
                "cams.example.com:443",
                "1.2.3.4",
            ],
        ),
        "urls" => (
            &["turn:turn.example.com:3478", "turns:turn.example.com:443?transport=tcp", "stun:[2001:db8::7]:3478"],
            &["https://turn.example.com", "turn:", "turn://a", "TURN:a", "turn:a b", "turn:a\nb"],
        ),
        "endpoint" | "url" => (
            &["https://s3.example.com", "http://store:9000", "http://127.0.0.1:9000/jwks.json"],
            &[
                "s3.example.com",
                "ftp://s3.example.com",
                "https://",
                "https:// s3",
                "HTTPS://s3.example.com",
                "https:///check",
                "http://localhost.example.com",
                "https://a/b c",
                "https://a\n",
            ],
        ),
        "bucket" => (&["recordings", "a.b-c", "123"], &["ab", "Recordings", "a_b_c", "-abc", "abc-"]),
        "cleanupSchedule" => (
            &["17 * * * *", "*/5 0-6 1,15 * MON", "0 0 1 1 *"],
            &[
                "hourly",
                "@hourly",
                "17 * * *",
                "17 * * * * *",
                "17  * * * *",
                "17 * * * ?",
                "99 * * * *",
                "* * * * 8",
                "a b c d e",
            ],
        ),
        // Made by hand beforehand: the one Secret that is there.
        "name" | "tlsSecretName" | "secretName" => (&["given"], &["Upper", "under_score", "-a", "a.", "missing"]),
        "key" => (&["secret", "hs256", "tls.crt"], &["a b", ".", "missing"]),
        "className" | "storageClassName" => (&["standard", "contour"], &["Upper", "a b"]),
        "image" => (&["registry.example.com/media-server:2", "media-server:1"], &["UPPER:1", "a b", " a", "a:b:c"]),
        "effect" => (&["NoSchedule", "NoExecute", "PreferNoSchedule"], &["noschedule"]),
        "operator" => (&["Exists", "In", "NotIn", "DoesNotExist", "Equal", "Gt"], &["in", "Equals"]),
        "topologyKey" => (&["kubernetes.io/hostname", "topology.kubernetes.io/zone"], &["a b"]),
        "region" => (&["us-east-1", "eu-1"], &["a b"]),
        _ => (&["cams", "a"], &["a b"]),
    }
}
