//! Specs of a StreamSession made from its definition: what the schema in crds/ lets be written, at its bounds, and beyond
//! them.
//!
//! The generator knows no field by heart. `schema` walks openAPIV3Schema and reads bounds out of x-kubernetes-validations;
//! `values` has for each form of value what is good, what lies at a bound and what is wrong; `changes` puts such values
//! into a good spec. `verdict` says what an API server would answer, so that a case is known before it is sent, and
//! [`rules`] what has to hold of the objects that the operator makes of a spec. A case is a function of its seed alone, and
//! opens no connection.
//!
//! The idea is Acto's (Gu et al., "Acto: Automatic End-to-End Testing for Operation Correctness of Cloud System
//! Management", SOSP 2023): operations made from the schema, and a spec given back must give back the state before.

mod bases;
mod changes;
pub mod rules;
mod schema;
mod values;
mod verdict;
pub mod world;

pub use bases::{bases, everything};
pub use changes::{Case, Change};
pub use schema::{Field, Form, Path, Step};
pub use verdict::{Verdict, delivered};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schema::Definition;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use verdict::Judge;

/// How a value stands to its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Good, whatever else the spec says.
    Valid,
    /// At a bound, or just beside it: good or not.
    Boundary,
    /// Wrong, mostly: of another type, out of range, of no known form.
    Invalid,
}

/// Makes specs from seeds.
pub struct Specs {
    definition: &'static Definition,
    bases: Vec<Value>,
    judge: Mutex<Judge>,
}

impl Specs {
    /// From the definition in crds/.
    pub fn new() -> Specs {
        let bases = bases().into_iter().chain(everything()).collect();
        Specs { definition: schema::definition(), bases, judge: Mutex::new(Judge::new()) }
    }

    /// What the definition says of a spec.
    pub fn schema(&self) -> &Value {
        self.definition.spec
    }

    /// Every field of a spec: groups, lists, maps, and what stands in them.
    pub fn fields(&self) -> &[Field] {
        &self.definition.fields
    }

    /// Messages of the rules about a whole spec or a value of it, each once.
    pub fn messages(&self) -> Vec<&str> {
        self.definition.messages.iter().map(String::as_str).collect()
    }

    /// What an API server says of a spec, in a session of a good name.
    pub fn verdict(&self, spec: &Value) -> Verdict {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner).of(spec)
    }

    /// The case of a seed. Five of ten change one field of a good spec, two change several, one breaks a rule, one is made up
    /// as a whole of good values, and one of any.
    pub fn case(&self, seed: u64) -> Case {
        let mut random = StdRng::seed_from_u64(seed);
        let random = &mut random;
        match seed % 10 {
            0..5 => self.changed(seed, self.base(random), 1, random),
            5..7 => {
                let changes = random.random_range(2..=5);
                self.changed(seed, self.base(random), changes, random)
            }
            7 => self.breaking(seed, random),
            8 => self.made_up(seed, Sort::Valid, random),
            _ => self.made_up(seed, Sort::Invalid, random),
        }
    }

    fn base(&self, random: &mut StdRng) -> Value {
        self.bases[random.random_range(0..self.bases.len())].clone()
    }
}

impl Default for Specs {
    fn default() -> Specs {
        Specs::new()
    }
}
