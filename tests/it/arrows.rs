//! What may depend on what, and that there is one copy of what must not be mixed.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// The crates of the workspace that `name` depends on, tests aside.
fn dependencies(metadata: &Value, name: &str) -> BTreeSet<String> {
    let package = metadata["packages"].as_array().unwrap().iter().find(|p| p["name"] == name && p["source"].is_null());
    let package = package.unwrap_or_else(|| panic!("no crate {name}"));
    let normal = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
    normal.map(|d| d["name"].as_str().unwrap().to_owned()).filter(|d| d.starts_with("tidemill")).collect()
}

#[test]
fn arrows_point_one_way() {
    let metadata = metadata();
    let allowed: [(&str, &[&str]); 5] = [
        ("tidemill-connectors", &[]),
        ("tidemill-ml", &[]),
        ("tidemill-engine", &["tidemill-connectors", "tidemill-ml"]),
        ("tidemill-scheduler", &["tidemill-engine"]),
        ("tidemill-executor", &["tidemill-engine"]),
    ];
    for (name, allowed) in allowed {
        let found = dependencies(&metadata, name);
        let allowed: BTreeSet<String> = allowed.iter().map(|a| (*a).to_owned()).collect();
        assert!(found.is_subset(&allowed), "{name} depends on {found:?}, may depend on {allowed:?}");
    }
}

#[test]
fn there_is_one_copy_of_what_cannot_be_mixed() {
    let lock = include_str!("../../Cargo.lock");
    for name in ["arrow", "arrow-array", "parquet", "datafusion", "object_store", "deltalake-core"] {
        let copies = lock.matches(&format!("\nname = \"{name}\"\n")).count();
        assert_eq!(copies, 1, "copies of {name} in Cargo.lock");
    }
}
