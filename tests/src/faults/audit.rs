//! The audit log of the API server as the oracle: who asked for what, and with which outcome.
//!
//! It is read in the node, from a mark on, and filtered there, since it grows to a hundred megabytes before it is put
//! aside. It says nothing of contents (level Metadata): what an object is has to be asked for.

use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Whether a request with this HTTP method may change something.
pub fn writes(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH" | "DELETE")
}

/// Whether this path is of what is written by the clock rather than by the state: events and leases.
pub fn passing(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    let (root, group) = (parts.next(), parts.next());
    match (root, group) {
        (Some("apis"), Some("events.k8s.io" | "coordination.k8s.io")) => true,
        (Some("api"), _) => path.split('/').any(|part| part == "events"),
        _ => false,
    }
}

/// One request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// get, list, watch, create, update, patch, delete or deletecollection.
    pub verb: String,
    /// As `apps/statefulsets`, `services` or `streamsessions/status` with its group before it; empty for other URLs.
    pub resource: String,
    /// Empty for what belongs to none, and for all.
    pub namespace: String,
    /// Empty for lists, and where the API server made the name.
    pub name: String,
    /// Who asked, and as whom if it asked as somebody else.
    pub user: String,
    /// HTTP status.
    pub code: u16,
    /// Whether it was refused for want of rights. A 403 alone may have another reason: a namespace that is about to go.
    pub forbidden: bool,
    /// RFC 3339, with microseconds.
    pub time: String,
}

impl Entry {
    /// Reads a line of the log; `None` for what is no request's end.
    pub fn read(line: &str) -> Option<Entry> {
        let raw: Raw = serde_json::from_str(line).ok()?;
        // A watch is answered when it begins; it may go on for long.
        if raw.stage != "ResponseComplete" && raw.stage != "ResponseStarted" {
            return None;
        }
        let object = raw.object_ref.unwrap_or_default();
        let slash = |text: &str| if text.is_empty() { String::new() } else { format!("/{text}") };
        let group = if object.api_group.is_empty() { String::new() } else { format!("{}/", object.api_group) };
        let status = raw.response_status.unwrap_or_default();
        Some(Entry {
            verb: raw.verb,
            resource: format!("{group}{}{}", object.resource, slash(&object.subresource)),
            namespace: object.namespace,
            name: object.name,
            forbidden: raw.annotations["authorization.k8s.io/decision"] == "forbid",
            user: raw.impersonated_user.unwrap_or(raw.user).username,
            code: status["code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or_default(),
            time: raw.request_received_timestamp,
        })
    }

    /// Whether it asked to change something.
    pub fn mutates(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether an object came to be by it: server-side apply creates by a patch.
    pub fn created(&self) -> bool {
        self.code == 201 && matches!(self.verb.as_str(), "create" | "update" | "patch")
    }

    /// Whether a deletion was accepted.
    pub fn deleted(&self) -> bool {
        self.verb == "delete" && (200..300).contains(&self.code)
    }

    /// Whether it is an event or a lease: written by the clock.
    pub fn passing(&self) -> bool {
        self.resource.ends_with("events") || self.resource.starts_with("coordination.k8s.io/")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    stage: String,
    verb: String,
    user: User,
    impersonated_user: Option<User>,
    object_ref: Option<ObjectRef>,
    response_status: Option<Value>,
    #[serde(default)]
    annotations: Value,
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    api_group: String,
}

/// How often objects came and went: `create services`, `delete pods` and so on, each with its number.
pub fn births_and_deaths<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        let what = if entry.created() {
            "create"
        } else if entry.deleted() {
            "delete"
        } else {
            continue;
        };
        if !entry.passing() {
            *counts.entry(format!("{what} {}", entry.resource)).or_default() += 1;
        }
    }
    counts
}

/// Which rights were needed: `verb resource`, of every request about a resource that was not refused for want of them.
pub fn rights<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> BTreeSet<(String, String)> {
    let asked = entries.into_iter().filter(|entry| !entry.resource.is_empty() && !entry.forbidden);
    // A server-side apply of what is not there needs both rights, and is logged as the one.
    let made = |entry: &Entry| entry.verb == "patch" && entry.code == 201;
    asked
        .flat_map(|entry| [Some(entry.verb.as_str()), made(entry).then_some("create")].map(|verb| (verb, entry)))
        .filter_map(|(verb, entry)| Some((verb?.to_owned(), entry.resource.clone())))
        .collect()
}

/// A place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    inode: u64,
    offset: u64,
}

impl Mark {
    /// Before the first line of the log that is still there.
    pub fn beginning() -> Mark {
        Mark { inode: 0, offset: 0 }
    }
}

/// The log, read by a function that runs a script of sh in the node, with arguments, and gives its standard output.
pub struct Log<F> {
    run: F,
}

/// The file that is written, and the folder that it is put aside in.
const HERE: &str = "stat -c '%i %s' /var/log/kubernetes/audit.log";
/// Arguments: inode, offset, what a line must have. Files are kept by number when they are put aside.
const SINCE: &str = r#"
cd /var/log/kubernetes || exit 1
marked=$(find . -maxdepth 1 -name 'audit*.log' -inum "$1" | head -n 1)
if [ "$1" = 0 ]; then
  cat $(ls -tr audit*.log)
elif [ -z "$marked" ]; then
  echo "the log was put aside more than once since the mark" >&2
  exit 1
else
  tail -c "+$(($2 + 1))" "$marked"
  for file in $(ls -tr audit*.log); do
    if [ "$file" -nt "$marked" ] && [ "./$file" != "$marked" ]; then cat "$file"; fi
  done
fi | grep -F -- "$3" || true
"#;

impl<F: Fn(&str, &[&str]) -> String> Log<F> {
    /// `run` takes a script and its arguments.
    pub fn new(run: F) -> Log<F> {
        Log { run }
    }

    /// The end of the log as it is now.
    pub fn mark(&self) -> Mark {
        let said = (self.run)(HERE, &[]);
        let mut numbers = said.split_whitespace().filter_map(|number| number.parse().ok());
        let (inode, offset) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        Mark { inode, offset }
    }

    /// What was asked since `mark` about objects in `namespace`, by anybody.
    pub fn about(&self, mark: &Mark, namespace: &str) -> Vec<Entry> {
        let mut entries = self.since(mark, &format!(r#""namespace":"{namespace}""#));
        entries.retain(|entry| entry.namespace == namespace);
        entries
    }

    /// What users asked for since `mark` whose names have `user` in them.
    pub fn by(&self, mark: &Mark, user: &str) -> Vec<Entry> {
        let mut entries = self.since(mark, &format!(r#""username":"{user}"#));
        entries.retain(|entry| entry.user.starts_with(user));
        entries
    }

    fn since(&self, mark: &Mark, has: &str) -> Vec<Entry> {
        let said = (self.run)(SINCE, &[&mark.inode.to_string(), &mark.offset.to_string(), has]);
        said.lines().filter_map(Entry::read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;
    use std::process::Command;

    fn line(verb: &str, resource: &str, subresource: &str, user: &str, code: u16) -> String {
        json!({
            "kind": "Event", "level": "Metadata", "stage": "ResponseComplete", "verb": verb,
            "user": {"username": user, "groups": ["x"]},
            "objectRef": {"resource": resource, "subresource": subresource, "namespace": "a", "name": "x", "apiGroup": "apps"},
            "responseStatus": {"metadata": {}, "code": code},
            "annotations": {"authorization.k8s.io/decision": if user == "nobody" { "forbid" } else { "allow" }},
            "requestReceivedTimestamp": "2026-01-01T00:00:00.000001Z",
        })
        .to_string()
    }

    #[test]
    fn creations_by_apply_count_and_those_that_were_refused_do_not() {
        let lines = [
            line("patch", "statefulsets", "", "op", 201),
            line("patch", "statefulsets", "", "op", 200),
            line("create", "statefulsets", "", "op", 409),
            line("delete", "statefulsets", "", "op", 404),
            line("delete", "statefulsets", "", "op", 200),
        ];
        let entries: Vec<Entry> = lines.iter().filter_map(|line| Entry::read(line)).collect();
        let counts = births_and_deaths(&entries);
        assert_eq!(
            counts,
            BTreeMap::from([("create apps/statefulsets".into(), 1), ("delete apps/statefulsets".into(), 1)])
        );
        assert_eq!(entries.iter().filter(|entry| entry.mutates()).count(), 5);
    }

    #[test]
    fn rights_are_of_resource_and_subresource_and_refusals_are_none() {
        let lines = [line("patch", "deployments", "scale", "op", 200), line("list", "deployments", "", "nobody", 403)];
        let entries: Vec<Entry> = lines.iter().filter_map(|line| Entry::read(line)).collect();
        assert_eq!(rights(&entries), BTreeSet::from([("patch".into(), "apps/deployments/scale".into())]));
        let made = Entry::read(&line("patch", "deployments", "", "op", 201)).unwrap();
        let both = ["create", "patch"].map(|verb| (verb.to_owned(), "apps/deployments".to_owned()));
        assert_eq!(rights([&made]), BTreeSet::from(both), "an apply of what was not there");
    }

    #[test]
    fn events_and_leases_are_written_by_the_clock() {
        for path in [
            "/apis/events.k8s.io/v1/namespaces/a/events",
            "/api/v1/namespaces/a/events/x.1",
            "/apis/coordination.k8s.io/v1/namespaces/a/leases/x",
        ] {
            assert!(passing(path), "{path}");
        }
        for path in ["/api/v1/namespaces/a/services/x", "/apis/apps/v1/namespaces/a/statefulsets/events-2"] {
            assert!(!passing(path), "{path}");
        }
    }

    /// The script runs here as it does in the node, on a folder of its own.
    fn log(folder: &std::path::Path) -> Log<impl Fn(&str, &[&str]) -> String> {
        let folder = folder.to_str().unwrap().to_owned();
        Log::new(move |script, arguments| {
            let script = script.replace("/var/log/kubernetes", &folder);
            let output = Command::new("sh").args(["-c", &script, "sh"]).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
    }

    #[test]
    fn what_came_since_a_mark_is_found_when_the_log_was_put_aside_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let (file, aside) = (folder.path().join("audit.log"), folder.path().join("audit-2026-01-01T00-00-00.000.log"));
        let put = |code: u16| line("patch", "statefulsets", "", "op", code) + "\n";
        fs::write(&file, put(200)).unwrap();
        let log = log(folder.path());
        let mark = log.mark();
        assert_eq!(log.about(&mark, "a").len(), 0);
        fs::write(&file, put(200) + &put(201)).unwrap();
        assert_eq!(log.about(&mark, "a").iter().map(|entry| entry.code).collect::<Vec<_>>(), [201]);
        fs::rename(&file, &aside).unwrap();
        // Files are told apart by when they were written last.
        fs::File::open(&aside).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::write(&file, put(202)).unwrap();
        assert_eq!(log.about(&mark, "a").iter().map(|entry| entry.code).collect::<Vec<_>>(), [201, 202]);
        assert_eq!(log.by(&Mark::beginning(), "op").len(), 3);
        assert_eq!(log.about(&mark, "b").len(), 0);
    }
}
