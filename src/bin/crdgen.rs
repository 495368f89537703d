//! The generator of `crds/`.
fn main() {}
