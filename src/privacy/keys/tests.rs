//! Keys are made on purpose, kept to themselves, and never silently others.

use super::*;
use hms_actors::failure::FailureKind;

const GIS: &str = "gis.vdot.gov";

fn file(data: &Path, name: &str) -> PathBuf {
    data.join(FOLDER).join(name)
}

#[test]
fn a_missing_key_is_told_with_the_command_and_nothing_makes_one() {
    let data = tempfile::tempdir().unwrap();
    let keys = Keys::new(data.path());
    let failure = keys.current(GIS).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Configuration);
    assert!(failure.message.contains("`hms privacy key create gis.vdot.gov`"), "{}", failure.message);
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
    assert!(matches!(keys.rotate(GIS), Err(NotMade::Missing(_))));
    // Made meanwhile, it is found without a restart.
    keys.create("GIS.vdot.gov").unwrap();
    assert_eq!(keys.current(GIS).unwrap(), 1);
    assert!(matches!(keys.create(GIS), Err(NotMade::Exists(_))));
}

#[test]
fn a_key_is_its_owners_file_and_is_the_same_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let made = Keys::new(data.path()).create(GIS).unwrap();
    let path = file(data.path(), "gis.vdot.gov.v1");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = Keys::new(data.path()).get(GIS, 1).unwrap();
    assert_eq!(Some(again.fingerprint()), made.fingerprint.as_deref());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let failure = Keys::new(data.path()).get(GIS, 1).unwrap_err();
    assert!(failure.message.contains("chmod 600"), "{}", failure.message);
}

#[test]
fn another_key_under_a_version_that_was_used_is_not_used() {
    let data = tempfile::tempdir().unwrap();
    // A key that was brought from elsewhere is remembered at its first use.
    let other = tempfile::tempdir().unwrap();
    Keys::new(other.path()).create(GIS).unwrap();
    std::fs::create_dir_all(data.path().join(FOLDER)).unwrap();
    let path = file(data.path(), "gis.vdot.gov.v1");
    std::fs::copy(file(other.path(), "gis.vdot.gov.v1"), &path).unwrap();
    let keys = Keys::new(data.path());
    keys.get(GIS, 1).unwrap();
    std::fs::write(&path, format!("{}\n", "07".repeat(32))).unwrap();
    keys.forget();
    let failure = keys.get(GIS, 1).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Configuration);
    assert!(failure.message.contains("is another key") && !failure.message.contains("0707"), "{}", failure.message);
    assert!(keys.list().unwrap()[0].wrong.is_some());
}

#[test]
fn rotation_makes_the_next_version_and_keeps_the_old_one() {
    let data = tempfile::tempdir().unwrap();
    let keys = Keys::new(data.path());
    keys.create(GIS).unwrap();
    let old = keys.get(GIS, 1).unwrap();
    assert_eq!(keys.rotate(GIS).unwrap().version, 2);
    assert_eq!(keys.current(GIS).unwrap(), 2);
    assert_ne!(keys.get(GIS, 2).unwrap().fingerprint(), old.fingerprint());
    assert_eq!(keys.get(GIS, 1).unwrap().fingerprint(), old.fingerprint());
    let listed: Vec<(u32, bool)> = keys.list().unwrap().iter().map(|key| (key.version, key.current)).collect();
    assert_eq!(listed, [(1, false), (2, true)]);
}

#[test]
fn a_version_that_is_gone_comes_back_only_as_what_it_was() {
    let data = tempfile::tempdir().unwrap();
    let keys = Keys::new(data.path());
    keys.create(GIS).unwrap();
    std::fs::remove_file(file(data.path(), "gis.vdot.gov.v1")).unwrap();
    keys.forget();
    assert!(keys.create(GIS).unwrap_err().to_string().contains("put"));
    assert!(keys.get(GIS, 1).unwrap_err().message.contains("is gone"));
    assert_eq!(keys.rotate(GIS).unwrap().version, 2);
}

#[test]
fn a_look_without_a_node_writes_nothing() {
    let data = tempfile::tempdir().unwrap();
    Keys::new(data.path()).create(GIS).unwrap();
    std::fs::remove_dir_all(data.path().join("work")).unwrap();
    Keys::read_only(data.path()).get(GIS, 1).unwrap();
    assert!(!data.path().join("work").exists());
}

#[test]
fn names_lead_nowhere_else() {
    let data = tempfile::tempdir().unwrap();
    let keys = Keys::new(data.path());
    for name in ["", "a b", "..", "../x", "a\n"] {
        assert!(matches!(keys.create(name), Err(NotMade::Name(_))), "{name:?}");
    }
    keys.create("local.sync/drop/../x").unwrap();
    assert_eq!(keys.current("local.sync/drop/../x").unwrap(), 1);
    assert!(file(data.path(), "local.sync%2Fdrop%2F..%2Fx.v1").exists());
}
