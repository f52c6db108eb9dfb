//! The planner under crashes and stale views: by whatever way a session came to be, once it is quiet all is as it would
//! have been without, and the next pass writes nothing.
//!
//! Each seed is a life of its own: passes that are cut after any write, passes planned from what was seen some time ago,
//! children deleted or edited by hand, a store that comes and goes, specs that change, and in half of them the session's
//! end. `TURMOIL_SEEDS=from..to` runs others than the usual ones.

use std::collections::BTreeMap;
use std::thread;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::{convergence::wanted_of, session, specs, world::World};
use crate::plan::{Child, Kind, Observed, Plan, Random, children, plan};

/// Lives that are tried when nobody says otherwise.
const SEEDS: std::ops::Range<u64> = 0..10_000;
/// Things that happen in a life.
const STEPS: u64 = 12;

/// Splitmix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }
}

/// Specs of a seed, in turn.
struct Specs(TestRunner);

impl Specs {
    fn of(seed: u64) -> Specs {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Specs(TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)))
    }

    /// A spec; of one size and class of volume, since a volume never shrinks.
    fn next(&mut self) -> Value {
        let mut spec = specs::spec().new_tree(&mut self.0).unwrap().current();
        spec["storage"]["size"] = json!("20Gi");
        spec["storage"].as_object_mut().unwrap().remove("storageClassName");
        spec
    }
}

/// What a plan does, cut after so many writes.
fn cut(mut plan: Plan, most: usize) -> Plan {
    let mut left = most;
    let mut take = |count: usize| {
        let taken = count.min(left);
        left -= taken;
        taken
    };
    plan.hold = plan.hold.filter(|_| take(1) == 1);
    plan.elsewhere.truncate(take(plan.elsewhere.len()));
    plan.apply.truncate(take(plan.apply.len()));
    plan.delete.truncate(take(plan.delete.len()));
    plan.delete_pod = plan.delete_pod.filter(|_| take(1) == 1);
    plan.push = plan.push.filter(|_| take(1) == 1);
    plan.status = plan.status.filter(|_| take(1) == 1);
    plan.release = plan.release.filter(|_| take(1) == 1);
    plan
}

fn live(seed: u64) -> Result<(), String> {
    let (mut dice, mut specs) = (Dice(seed), Specs::of(seed));
    let mut spec = specs.next();
    let mut world = World::new(session(&spec));
    world.tolerant = true;
    let mut seen: Vec<Observed> = Vec::new();
    let mut told = Vec::new();
    for _ in 0..STEPS {
        if world.gone {
            break;
        }
        seen.push(world.observe());
        let what = dice.below(12);
        told.push(what);
        match what {
            0..=3 => drop(world.pass()),
            4..=6 => {
                let plan = cut(world.plan(), dice.below(8) as usize);
                world.carry_out(plan);
                world.controllers();
            }
            7 | 8 => {
                let stale = &seen[dice.below(seen.len() as u64) as usize];
                let mut random = [0; 32];
                random[..8].copy_from_slice(&dice.below(u64::MAX).to_le_bytes());
                let plan = plan(&world.session, &world.settings, stale, Random(random));
                let most = dice.below(16) as usize;
                world.carry_out(cut(plan, most));
                world.controllers();
            }
            9 => tamper(&mut world, &mut dice),
            10 => world.store_answers = !world.store_answers,
            _ => {
                spec = specs.next();
                let wanted = spec.clone();
                world.change(|all| *all = wanted);
            }
        }
    }
    world.store_answers = true;
    let failed = |what: String| Err(format!("seed {seed}: {what}; steps {told:?}; spec {spec}"));
    if dice.below(2) == 0 {
        if !world.gone {
            world.delete_session();
        }
        if let Err(why) = world.settle_deletion() {
            return failed(why);
        }
        let left: Vec<String> =
            world.objects.keys().filter(|child| child.kind == Kind::StatefulSet).map(Child::to_string).collect();
        if world.copy.is_some() || !left.is_empty() || world.pod.is_some() {
            return failed(format!("something is left: {left:?}, keys {:?}, pod {}", world.copy, world.pod.is_some()));
        }
        return Ok(());
    }
    world.settle();
    if !world.is_ready() {
        return failed(format!("not Ready: {:?}", world.condition("Ready")));
    }
    let writes = world.log.len();
    world.pass();
    if world.log.len() > writes {
        return failed(format!("a second pass writes {:?}", &world.log[writes..]));
    }
    let mut quiet = World::new(session(&spec));
    quiet.settle();
    let (is, should) = (by_child(&wanted_of(&world)), by_child(&wanted_of(&quiet)));
    let wrong: Vec<&String> = should.keys().filter(|child| is.get(*child) != should.get(*child)).collect();
    let more: Vec<&String> = is.keys().filter(|child| !should.contains_key(*child)).collect();
    if !wrong.is_empty() || !more.is_empty() {
        return failed(format!("otherwise than without turmoil: {wrong:?}, and too many: {more:?}"));
    }
    Ok(())
}

fn by_child(wanted: &Value) -> BTreeMap<String, Value> {
    wanted.as_object().into_iter().flatten().map(|(child, object)| (child.clone(), object.clone())).collect()
}

/// A child deleted or edited by hand; not the volume, whose content would be gone.
fn tamper(world: &mut World, dice: &mut Dice) {
    let there: Vec<Child> = children(&world.session)
        .into_iter()
        .filter(|child| child.kind != Kind::PersistentVolumeClaim && world.objects.contains_key(child))
        .collect();
    if there.is_empty() {
        return;
    }
    let child = there[dice.below(there.len() as u64) as usize].clone();
    if dice.below(2) == 0 {
        world.objects.remove(&child);
    } else {
        world.object_mut(child.kind, &child.name)["metadata"]["labels"]["app.kubernetes.io/component"] = json!("other");
    }
}

/// `TURMOIL_SEEDS`, or the usual ones.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("TURMOIL_SEEDS") else { return SEEDS };
    let bounds = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    bounds.unwrap_or_else(|| panic!("TURMOIL_SEEDS={text}: write from..to, such as 0..100"))
}

#[test]
fn whatever_happens_the_end_is_the_same_and_then_nothing_is_written() {
    let seeds = seeds();
    let middle = seeds.start + (seeds.end - seeds.start) / 2;
    let halves = [seeds.start..middle, middle..seeds.end];
    let failures: Vec<String> = thread::scope(|scope| {
        let threads =
            halves.map(|half| scope.spawn(move || half.filter_map(|seed| live(seed).err()).collect::<Vec<_>>()));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let first: Vec<&String> = failures.iter().take(3).collect();
    assert!(failures.is_empty(), "{} seeds fail, such as {first:#?}", failures.len());
}
