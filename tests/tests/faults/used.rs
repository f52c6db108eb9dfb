//! The rights that the chart grants are those that the operator used in all of the tests: no more, and none was missing.
//!
//! It judges the audit log of the whole run, so it comes last: tests run in the order of their names.

use crate::harness::{alone, figure, text};
use crate::oracle::{log, told};
use crate::release::{NAMESPACE, rendered};
use serde_json::Value;
use std::collections::BTreeSet;
use streamsession_tests::faults::audit::{Mark, rights};

/// Granted, and needed where the tests do not get.
const IN_RESERVE: [(&str, &str, &str); 0] = [];

#[test]
fn rights_granted_are_rights_used() {
    let _turn = alone();
    let all = rendered("streamsession", NAMESPACE, &[]);
    let account = all.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let account = text(account, "/spec/template/spec/serviceAccountName");
    let granted = granted(&all, &account);
    assert!(granted.len() > 20, "{granted:?}");
    for (verb, resource) in &granted {
        assert!(verb != "*" && !resource.contains('*'), "a wildcard: {verb} {resource}");
        assert!(resource != "secrets" || !["list", "watch"].contains(&verb.as_str()), "Secrets may be listed");
    }
    // The release's, and those that the tests ran themselves, each in a namespace of its own.
    let entries: Vec<_> = ["streamsession-system:", "faults-"]
        .iter()
        .flat_map(|place| log().by(&Mark::beginning(), &format!("system:serviceaccount:{place}")))
        .filter(|entry| {
            entry.user.starts_with("system:serviceaccount:faults-") || entry.user.ends_with(&format!(":{account}"))
        })
        .collect();
    let used = rights(&entries);
    let refused: Vec<_> = entries.iter().filter(|entry| entry.forbidden).cloned().collect();
    let reserve: BTreeSet<_> =
        IN_RESERVE.iter().map(|(verb, resource, _)| ((*verb).to_owned(), (*resource).to_owned())).collect();
    let unused: Vec<_> = granted.difference(&used).filter(|right| !reserve.contains(*right)).collect();
    let useless: Vec<_> = reserve.intersection(&used).collect();
    figure(&format!(
        "{} rights granted, {} used by {} requests",
        granted.len(),
        granted.intersection(&used).count(),
        entries.len()
    ));
    let well = refused.is_empty() && unused.is_empty() && useless.is_empty();
    let refused = told(&refused);
    assert!(
        well,
        "refused for want of rights:\n{refused}granted and never used: {unused:?}\nin reserve, and used: {useless:?}"
    );
}

/// `verb resource`, of every role that is bound to this account.
fn granted(all: &[Value], account: &str) -> BTreeSet<(String, String)> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let bound: Vec<(String, String)> = all
        .iter()
        .filter(|object| text(object, "/kind").ends_with("RoleBinding"))
        .filter(|binding| list(binding, "subjects").iter().any(|subject| subject["name"] == *account))
        .map(|binding| (text(binding, "/roleRef/kind"), text(binding, "/roleRef/name")))
        .collect();
    let is_bound = |role: &&Value| bound.contains(&(text(role, "/kind"), text(role, "/metadata/name")));
    let mut granted = BTreeSet::new();
    for rule in all.iter().filter(is_bound).flat_map(|role| list(role, "rules")) {
        for group in list(&rule, "apiGroups") {
            let group =
                group.as_str().map(|group| if group.is_empty() { String::new() } else { format!("{group}/") }).unwrap();
            for resource in list(&rule, "resources") {
                for verb in list(&rule, "verbs") {
                    granted
                        .insert((verb.as_str().unwrap().to_owned(), format!("{group}{}", resource.as_str().unwrap())));
                }
            }
        }
    }
    granted
}
