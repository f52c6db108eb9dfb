//! Nothing: Cargo wants a target beside the dependency, which alone is built.
