//! Lines as OpenSSH writes and reads them; keys, hashes and the fingerprint are `ssh-keygen`'s own.

use super::*;

const ED25519: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIES98Wdq8lF0CUlZydwR1SmSSavoaZ2TS/uoHgxQVSwC";
const ECDSA: &str = "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJlqZEUhC3QgMhFyXWsUAiU6tqvGNN5TcEfC1mlvDdP8pTrytpRoy95Z8mqKZl1n9aLCLFPFNAcGrF42zGRR/5A=";

fn key(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

/// The verdict of a file with one line that ends in the Ed25519 key, on that key.
fn verdict(names: &str, name: &str) -> Verdict {
    KnownHosts::parse(&format!("{names} ssh-ed25519 {ED25519} comment\n")).check(name, &key(ED25519))
}

#[test]
fn a_plain_name_is_known_by_its_key_and_by_no_other() {
    let file = KnownHosts::parse(&format!("# a comment\n\nfinance,10.0.0.7 ssh-ed25519 {ED25519}\r\n"));
    assert_eq!(file.check("finance", &key(ED25519)), Verdict::Known);
    assert_eq!(file.check("10.0.0.7", &key(ED25519)), Verdict::Known);
    assert_eq!(file.check("finance.example", &key(ED25519)), Verdict::Unknown);
    assert_eq!(file.check("finance", &key(ECDSA)), Verdict::Changed { line: 3, known_type: "ssh-ed25519".into() });
}

#[test]
fn the_name_has_brackets_when_the_port_is_not_22() {
    assert_eq!(name_of("Finance.Example", 22), "finance.example");
    assert_eq!(name_of("finance", 2222), "[finance]:2222");
    assert_eq!(verdict("[finance]:2222", "[finance]:2222"), Verdict::Known);
    assert_eq!(verdict("finance", "[finance]:2222"), Verdict::Unknown);
}

#[test]
fn hashed_names_are_found() {
    let file = KnownHosts::parse(&format!(
        "|1|R6Y5XBeKDzdhEV5wE4L7GnzePpY=|160v77+nRsJZdO3V40bECMJ0i6Q= ssh-ed25519 {ED25519}\n\
         |1|GfqjC2jmnWqVl4/s6qwWbJuuQG8=|Ipo2KLF2MC/BQlQwwf4zOME1gcg= ecdsa-sha2-nistp256 {ECDSA}\n"
    ));
    assert_eq!(file.check("finance.state.vt.gov", &key(ED25519)), Verdict::Known);
    assert_eq!(file.check("[other.example]:2222", &key(ECDSA)), Verdict::Known);
    assert_eq!(file.check("other.example", &key(ECDSA)), Verdict::Unknown);
}

#[test]
fn patterns_match_and_a_negation_wins() {
    assert_eq!(verdict("*.Example", "finance.example"), Verdict::Known);
    assert_eq!(verdict("f?nance", "finance"), Verdict::Known);
    assert_eq!(verdict("*.example", "example"), Verdict::Unknown);
    assert_eq!(verdict("*.example,!finance.example", "finance.example"), Verdict::Unknown);
    assert_eq!(verdict("*.example,!finance.example", "tax.example"), Verdict::Known);
    assert_eq!(verdict("!finance", "tax"), Verdict::Unknown);
    assert_eq!(verdict("a*b*c", "a-b-b-c"), Verdict::Known);
    assert_eq!(verdict("a*b*c", "a-b-b"), Verdict::Unknown);
}

#[test]
fn several_keys_of_one_host_are_each_good_and_name_their_types() {
    let file = KnownHosts::parse(&format!("h ecdsa-sha2-nistp256 {ECDSA}\nh ssh-ed25519 {ED25519}\n"));
    assert_eq!(file.key_types("h"), ["ecdsa-sha2-nistp256", "ssh-ed25519"]);
    assert_eq!(file.check("h", &key(ED25519)), Verdict::Known);
    assert_eq!(file.check("h", &key(ECDSA)), Verdict::Known);
}

#[test]
fn a_revoked_key_is_refused_even_where_it_is_also_listed() {
    let file = KnownHosts::parse(&format!("h ssh-ed25519 {ED25519}\n@revoked * ssh-ed25519 {ED25519}\n"));
    assert_eq!(file.check("h", &key(ED25519)), Verdict::Revoked { line: 2 });
    assert_eq!(file.check("h", &key(ECDSA)), Verdict::Changed { line: 1, known_type: "ssh-ed25519".into() });
}

#[test]
fn a_certificate_authority_makes_no_host_known() {
    assert_eq!(verdict("@cert-authority *.example", "h.example"), Verdict::AuthorityOnly { line: 1 });
    assert_eq!(verdict("@cert-authority *.example", "h.other"), Verdict::Unknown);
}

#[test]
fn lines_that_make_no_sense_are_skipped() {
    let torn =
        format!("h\nh ssh-ed25519\nh ssh-ed25519 ***\n@new h ssh-ed25519 {ED25519}\n|1|x h ssh-ed25519\n@revoked\n");
    assert_eq!(KnownHosts::parse(&torn).check("h", &key(ED25519)), Verdict::Unknown);
}

#[test]
fn the_fingerprint_is_the_one_that_ssh_keygen_prints() {
    assert_eq!(fingerprint(&key(ED25519)), "SHA256:8P8pOQgwnpAVJZCZikQyMVFNoDqMYl7U6t5k5wi8O50");
}
