//! What the contract says of secrets, sentence by sentence.

use super::*;

fn target(name: &str) -> TargetName {
    TargetName::parse(name).unwrap()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn of_environment(environment: &[(&str, &str)]) -> Secrets {
    Secrets::new(pairs(environment), None, BTreeMap::new())
}

fn found(secrets: &Secrets, names: &[&str]) -> Result<(String, String), String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let secret = secrets.find(&names, "host.example").map_err(|failure| failure.message)?;
    Ok((secret.name.clone(), secret.value.expose_secret().to_owned()))
}

#[test]
fn names_lose_leading_words_but_keep_one_before_the_last_word_of_the_suffix() {
    let names = |target_name: &str, suffix: &str| Secrets::names(&target(target_name), suffix);
    assert_eq!(names("vdot_gis", "KEY"), ["VDOT_GIS_KEY", "GIS_KEY"]);
    assert_eq!(names("cobol_finance", "SSH_KEY"), ["COBOL_FINANCE_SSH_KEY", "FINANCE_SSH_KEY", "SSH_KEY"]);
    assert_eq!(names("cobol_finance", "PASSWORD"), ["COBOL_FINANCE_PASSWORD", "FINANCE_PASSWORD"]);
    assert_eq!(names("gis", "KEY"), ["GIS_KEY"]);
    assert_eq!(names("vdot.gis-2", "TOKEN"), ["VDOT_GIS_2_TOKEN", "GIS_2_TOKEN", "2_TOKEN"]);
}

#[test]
fn the_nodes_own_names_are_never_derived_and_never_given() {
    assert_eq!(Secrets::names(&target("hms_admin"), "TOKEN"), ["ADMIN_TOKEN"]);
    let secrets = of_environment(&[("HMS_TOKEN", "s3cret")]);
    let message = found(&secrets, &["HMS_TOKEN"]).unwrap_err();
    assert!(message.contains("HMS_TOKEN") && !message.contains("s3cret"), "{message}");
    assert!(!secrets.present(&["HMS_TOKEN".into()]));
}

#[test]
fn each_name_is_looked_for_in_all_places_before_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = tempfile::tempdir().unwrap();
    let pointed = directory.path().join("elsewhere");
    std::fs::write(&pointed, "by pointer\n").unwrap();
    std::fs::write(directory.path().join("A_KEY"), "in secrets_dir\n").unwrap();
    std::fs::write(credentials.path().join("A_KEY"), "in credentials\n").unwrap();
    std::fs::write(credentials.path().join("C_KEY"), "only in credentials\n").unwrap();
    let with = |environment: &[(&str, &str)]| {
        let mut environment = pairs(environment);
        environment.push(("CREDENTIALS_DIRECTORY".into(), credentials.path().display().to_string()));
        Secrets::new(environment, Some(directory.path().into()), BTreeMap::new())
    };
    let pointer = pointed.display().to_string();
    let value = |secrets: &Secrets, names: &[&str]| found(secrets, names).unwrap().1;

    assert_eq!(value(&with(&[("A_KEY", "in env"), ("A_KEY_FILE", &pointer)]), &["A_KEY"]), "in env");
    assert_eq!(value(&with(&[("A_KEY_FILE", &pointer)]), &["A_KEY"]), "by pointer");
    assert_eq!(value(&with(&[]), &["A_KEY"]), "in secrets_dir");
    assert_eq!(value(&with(&[]), &["C_KEY"]), "only in credentials");
    assert_eq!(value(&with(&[("B_KEY", "second name")]), &["A_KEY", "B_KEY"]), "in secrets_dir");
}

#[test]
fn a_file_is_read_at_each_use_and_a_change_shows_in_the_fingerprint() {
    let directory = tempfile::tempdir().unwrap();
    let secrets = Secrets::new([], Some(directory.path().into()), BTreeMap::new());
    let fingerprint = |value: &str| {
        std::fs::write(directory.path().join("A_KEY"), value).unwrap();
        secrets.find(&["A_KEY".into()], "host").unwrap().fingerprint()
    };
    let before = fingerprint("old");
    assert_eq!(before, fingerprint("old\n"));
    assert_ne!(before, fingerprint("new"));
}

#[test]
fn one_line_loses_its_line_end_and_a_key_of_many_lines_is_kept_whole() {
    let value = |text: &str| found(&of_environment(&[("A_KEY", text)]), &["A_KEY"]).unwrap().1;
    assert_eq!(value("token\n"), "token");
    assert_eq!(value("token\r\n"), "token");
    assert_eq!(value(" spaces count "), " spaces count ");
    assert_eq!(value("-----BEGIN\nabc\n-----END\n"), "-----BEGIN\nabc\n-----END\n");
}

#[test]
fn a_missing_secret_names_the_names_and_the_places() {
    let message = found(&of_environment(&[("A_KEY", "")]), &["A_KEY", "B_KEY"]).unwrap_err();
    for part in ["A_KEY or B_KEY", "environment variable", "NAME_FILE", "/run/secrets"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_file_that_is_there_but_no_use_is_an_error_and_not_a_reason_to_look_further() {
    let directory = tempfile::tempdir().unwrap();
    let secrets = Secrets::new([], Some(directory.path().into()), BTreeMap::new());
    let message = |bytes: &[u8]| {
        std::fs::write(directory.path().join("A_KEY"), bytes).unwrap();
        found(&secrets, &["A_KEY"]).unwrap_err()
    };
    assert!(message(b"\n").contains("is empty"));
    assert!(message(b"\xff\xfe").contains("is not UTF-8"));
    assert!(message(&vec![b'x'; 65 * 1024]).contains("is larger"));
    let dangling = of_environment(&[("A_KEY_FILE", "/nonexistent/key")]);
    assert!(found(&dangling, &["A_KEY"]).unwrap_err().contains("A_KEY_FILE names `/nonexistent/key`"));
}

#[test]
fn a_bound_secret_is_given_to_its_hosts_only() {
    let hosts = BTreeMap::from([("A_KEY".to_owned(), vec!["GIS.example".to_owned()])]);
    let secrets = Secrets::new(pairs(&[("A_KEY", "s3cret")]), None, hosts);
    assert!(secrets.find(&["A_KEY".into()], "gis.example").is_ok());
    let message = secrets.find(&["A_KEY".into()], "evil.example").unwrap_err().message;
    assert!(message.contains("evil.example") && message.contains("GIS.example") && !message.contains("s3cret"));
}

#[test]
fn an_explicit_name_is_derived_or_listed() {
    let hosts = BTreeMap::from([("SHARED".to_owned(), vec!["gis.example".to_owned()])]);
    let secrets = Secrets::new([], None, hosts);
    let names = |explicit| secrets.names_for(&target("vdot_gis"), "KEY", explicit);
    assert_eq!(names(None).unwrap(), ["VDOT_GIS_KEY", "GIS_KEY"]);
    assert_eq!(names(Some("GIS_TOKEN")).unwrap(), ["GIS_TOKEN"]);
    assert_eq!(names(Some("SHARED")).unwrap(), ["SHARED"]);
    assert!(names(Some("OTHER_KEY")).unwrap_err().message.contains("secret_hosts"));
}

#[test]
fn a_name_that_would_lead_out_of_the_directory_is_refused() {
    for name in ["../shadow", "/etc/shadow", ".hidden", "", "A KEY"] {
        assert!(found(&of_environment(&[]), &[name]).unwrap_err().contains("is not a secret's name"), "{name}");
    }
}

#[test]
fn no_value_is_ever_printed() {
    let secrets = of_environment(&[("A_KEY", "s3cret")]);
    let secret = secrets.find(&["A_KEY".into()], "host").unwrap();
    let printed = format!("{secrets:?} {secret:?} {:?}", secret.fingerprint());
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[test]
fn no_target_gets_what_the_audit_is_signed_or_anchored_with_whatever_it_is_named() {
    let secrets = Secrets::new(
        [(AUDIT_SIGNING_KEY.to_owned(), "k".to_owned())],
        None,
        BTreeMap::from([(AUDIT_SIGNING_KEY.to_owned(), vec!["gis.vdot.gov".to_owned()])]),
    );
    for name in ["audit_signing", "the_audit.signing", "audit-signing"] {
        let names = Secrets::names(&target(name), "KEY");
        assert!(!names.iter().any(|name| name == AUDIT_SIGNING_KEY), "{names:?}");
        assert!(secrets.names_for(&target(name), "KEY", Some(AUDIT_SIGNING_KEY)).is_err());
    }
    assert!(secrets.own(AUDIT_SIGNING_KEY).unwrap().is_some());
    assert_eq!(Secrets::names(&target("an.anchor"), "TOKEN"), ["AN_ANCHOR_TOKEN"]);
    assert!(secrets.names_for(&target("anchor"), "TOKEN", Some(ANCHOR_TOKEN)).is_err());
}
