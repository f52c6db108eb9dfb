//! Ten thousand specs that the definition in crds/ lets be written, or just not, given to everything that reads one: the types,
//! the rules, the planner, and the media server's reader. None of it may panic, and what one of them takes the others must.
//!
//! `FUZZ_SEED` and `FUZZ_CASES` choose which, and how many. A failure names its seed; `FUZZ_CASES=1 FUZZ_SEED=n` is that case.

#[path = "spec_fuzz/generator.rs"]
mod generator;

use operator::plan::{Kind, names};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use streamsession_api::{StreamSession, from_yaml};
use streamsession_tests::specs::world::World;
use streamsession_tests::specs::{Case, Specs, Verdict, delivered, rules};

/// Passes after which nothing may be left to write.
const PASSES: usize = 8;
/// The rule that CEL knows the laxer half of (`operator/api`, `rules`).
const LAXER: &str = "announce: ";

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

fn document(spec: &Value) -> Value {
    json!({
        "apiVersion": "media.streamsession.io/v1alpha1", "kind": "StreamSession",
        "metadata": {"name": "front-door", "namespace": "cameras"}, "spec": spec,
    })
}

/// How a case ends; what is wrong is an error.
fn run(case: &Case, specs: &Specs) -> Result<&'static str, String> {
    read_as_yaml(case)?;
    // Whatever its values are: nothing but the types themselves decides whether it can be decoded.
    let decoded = serde_json::from_value::<StreamSession>(document(&delivered(&case.spec)));
    let (kept, refused) = match specs.verdict(&case.spec) {
        Verdict::Malformed(wrong) => {
            let fields = wrong.iter().all(|one| one.starts_with("spec"));
            return if fields { Ok("malformed") } else { Err(format!("no field is named: {wrong:?}")) };
        }
        Verdict::Taken(kept) => (kept, Vec::new()),
        Verdict::Refused(messages) => (delivered(&case.spec), messages),
    };
    let session = match decoded {
        Ok(session) => session,
        // One such session would end the operator's watch of all.
        Err(error) if refused.is_empty() => return Err(format!("it is taken and cannot be decoded: {error}")),
        Err(_) => return Ok("refused, of no form"),
    };
    let violations: Vec<String> = session.validate().into_iter().map(|violation| violation.remedy).collect();
    let unknown: Vec<&String> = refused.iter().filter(|message| !violations.contains(message)).collect();
    if !unknown.is_empty() {
        return Err(format!("CEL refuses what the rules of Rust take: {unknown:?}"));
    }
    let more: Vec<&String> =
        violations.iter().filter(|one| !refused.contains(one) && !one.starts_with(LAXER)).collect();
    if !more.is_empty() {
        return Err(format!("the rules of Rust refuse what CEL takes: {more:?}"));
    }
    let mut world = World::new("front-door", &kept).map_err(|error| error.to_string())?;
    plans(&mut world)?;
    match (refused.is_empty(), violations.is_empty()) {
        (false, _) => Ok("refused"),
        (true, false) => Ok("taken, and told as invalid"),
        (true, true) if is_true(&world, "Stalled") => Ok("taken, and told as stalled"),
        (true, true) if session.spec.paused => Ok("paused"),
        (true, true) => Ok("planned"),
    }
}

/// The media server's reader, with a spec as a person writes it.
fn read_as_yaml(case: &Case) -> Result<(), String> {
    let text = serde_yaml::to_string(&document(&case.spec)).map_err(|error| error.to_string())?;
    match from_yaml(&text, "session.yaml") {
        Ok(session) => drop(session.validate()),
        Err(error) => {
            let told = error.to_string();
            if !told.contains("spec") {
                return Err(format!("the reader does not say where: {told}"));
            }
        }
    }
    Ok(())
}

fn is_true(world: &World, condition: &str) -> bool {
    let conditions = world.session.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|one| one.type_ == condition && one.status == "True")
}

/// The planner, from nothing to rest.
fn plans(world: &mut World) -> Result<(), String> {
    let first = world.plan();
    let acts = world.session.validate().is_empty() && !world.session.spec.paused;
    if !acts && (!first.apply.is_empty() || !first.delete.is_empty() || first.push.is_some()) {
        return Err("something is written for a spec that is none".to_owned());
    }
    world.carry_out(first);
    if !world.settle(PASSES) {
        let left: Vec<String> = world.plan().apply.iter().map(|apply| apply.child.to_string()).collect();
        return Err(format!("it still writes after {PASSES} passes: {left:?}"));
    }
    let status = world.session.status.as_ref().ok_or("no status")?;
    if status.conditions.is_empty() || status.conditions.iter().any(|one| one.reason.is_empty()) {
        return Err(format!("conditions without a reason: {:?}", status.conditions));
    }
    let stalled = is_true(world, "Stalled");
    if acts && !stalled && world.object(Kind::StatefulSet).is_none() {
        return Err("nothing stalls, and there is no StatefulSet".to_owned());
    }
    let wrong = rules::broken(world);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

#[test]
fn no_spec_makes_anything_panic_and_what_is_taken_is_planned() {
    let (first, count) = (number("FUZZ_SEED", 0), number("FUZZ_CASES", 10_000));
    let begin = Instant::now();
    let next = AtomicU64::new(first);
    let (outcomes, failures) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    let work = || {
        let specs = Specs::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let case = specs.case(seed);
            let result = catch_unwind(AssertUnwindSafe(|| run(&case, &specs)));
            match result.unwrap_or_else(|_| Err("it panics".to_owned())) {
                Ok(outcome) => {
                    *outcomes.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome).or_insert(0) += 1
                }
                Err(what) => failures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(format!("{case}\n  {what}\n  {}", case.spec)),
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let (outcomes, failures) = (outcomes.into_inner().unwrap(), failures.into_inner().unwrap());
    // Past the runner's capture.
    let _ = writeln!(
        std::io::stderr().lock(),
        "    {count} specs from seed {first} in {:.1?}: {outcomes:?}",
        begin.elapsed()
    );
    let shown: Vec<&String> = failures.iter().take(8).collect();
    assert!(
        failures.is_empty(),
        "{} of {count} cases fail, the first:\n{}",
        failures.len(),
        shown.iter().map(|text| text.as_str()).collect::<Vec<_>>().join("\n")
    );
    if count >= 10_000 {
        for outcome in
            ["malformed", "refused", "refused, of no form", "planned", "paused", "taken, and told as stalled"]
        {
            assert!(outcomes.contains_key(outcome), "no case is {outcome}: {outcomes:?}");
        }
    }
}

#[test]
fn a_name_of_the_longest_length_fits_every_object() {
    let name = format!("a{}", "b".repeat(51));
    for spec in streamsession_tests::specs::bases() {
        let mut world = World::new(&name, &delivered(&spec)).unwrap();
        assert_eq!(world.session.validate(), vec![]);
        plans(&mut world).unwrap_or_else(|what| panic!("{spec}: {what}"));
        assert!(names::pod(&name).len() <= 63);
    }
}
