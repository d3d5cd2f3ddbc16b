//! The rules of the house that a compiler does not check: every file says what it is, no page names a path that
//! is not there, and the parts of the product do not know each other.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

fn all(folders: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| files(&root().join(folder), extension, &mut found));
    found
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    for path in all(&["actors/src", "actors/tests", "src", "chaos-tests/src", "chaos-tests/tests"], "rs") {
        let text = fs::read_to_string(&path).expect("text");
        assert!(text.starts_with("//! "), "{} does not open with //!", path.display());
    }
}

#[test]
fn every_path_that_a_page_names_is_there() {
    let mut pages = all(&["docs"], "md");
    pages.push(root().join("README.md"));
    for page in pages {
        let text = fs::read_to_string(&page).expect("text");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
            let target = page.parent().expect("a folder").join(link.split('#').next().unwrap_or(link));
            assert!(target.exists(), "{} links to {link}, which is not there", page.display());
        }
        for quoted in text.split('`').skip(1).step_by(2) {
            let of_ours =
                ["actors/", "src/", "recipes/", "chaos-tests/", "docs/"].iter().any(|top| quoted.starts_with(top));
            if of_ours && !quoted.contains([' ', '{', '*']) {
                assert!(root().join(quoted).exists(), "{} names `{quoted}`, which is not there", page.display());
            }
        }
    }
}

/// The tables of docs/security.md are worth what the tests are that they name.
#[test]
fn every_test_that_the_page_on_security_names_is_there() {
    let page = fs::read_to_string(root().join("docs/security.md")).expect("text");
    let code = all(&["actors", "src", "chaos-tests/tests"], "rs").into_iter().map(fs::read_to_string);
    let code: String = code.map(|text| text.expect("text")).collect();
    let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    // A sentence: metrics and keys have fewer words.
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(is_name).collect();
    let named = named.into_iter().filter(|word| word.matches('_').count() >= 4).collect::<Vec<_>>();
    assert!(named.len() > 20, "{named:?}");
    for test in named {
        assert!(code.contains(&format!("fn {test}(")), "docs/security.md names `{test}`, which is not there");
    }
}

/// `app` brings the parts together; none of them needs another.
#[test]
fn siblings_do_not_know_each_other() {
    let own = |part: &'static str| part.split('/').next().expect("a name");
    let common = [
        "access",
        "ahead",
        "approved",
        "catalog",
        "config",
        "egress",
        "fault",
        "formats",
        "mark",
        "privacy",
        "proof",
        "recipe::model",
        "secrets",
    ];
    for part in ["admin", "adapters/rest", "adapters/sftp", "adapters/file", "feeds", "formats", "recipe", "store"] {
        for path in all(&[&format!("src/{part}")], "rs") {
            if path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("testing.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            for (_, used) in text.match_indices("crate::").map(|(at, found)| (at, &text[at + found.len()..])) {
                let allowed = used.starts_with(own(part))
                    || common.iter().any(|name| used.starts_with(name))
                    || (part == "recipe" && ["yaml", "record", "keywords"].iter().any(|name| used.starts_with(name)));
                let line = used.lines().next().unwrap_or_default();
                assert!(allowed, "{} uses crate::{line}", path.display());
            }
        }
    }
}
