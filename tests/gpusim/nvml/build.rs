//! Gives the library the name under which programs know the real one, and keeps it loaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnvidia-ml.so.1");
    // A script counts the calls of a process; a program that gives up and loads the library again is still the same.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
