//! The architecture as a test: what the heart may know is written in its manifest.

#[test]
fn the_heart_knows_no_protocol_store_yaml_or_web() {
    let manifest = include_str!("../../Cargo.toml");
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names: Vec<&str> = section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect();
    let allowed = [
        "actix",
        "async-trait",
        "bytes",
        "futures-util",
        "governor",
        "rand",
        "serde",
        "sha2",
        "thiserror",
        "tokio",
        "tracing",
    ];
    assert_eq!(names, allowed, "the heart asks for what it needs of the world through its ports");
}
