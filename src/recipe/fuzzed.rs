//! What is fuzzed here beside whole recipes: templates of paths and urls (see src/fuzzed.rs).

use chrono::DateTime;

use super::template::{Owner, Template, paths_can_meet};
use super::url_template::UrlTemplate;
use crate::yaml::values::FromText;

const OWNER: Owner<'static> = Owner { recipe: "vdot.sync", target: "cobol" };
const OTHER: Owner<'static> = Owner { recipe: "other.sync", target: "drop" };

/// A template a line, two of them: what is taken stays in its folder whenever it is rendered, meets itself, and meets the
/// other one as the other meets it.
pub(crate) fn path_template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (one, other) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(template) = Template::parse(one) else { return };
    assert_eq!(template.as_str(), one);
    let moment = DateTime::from_timestamp_millis(1_793_865_600_250).expect("a moment");
    let path = template.render(&moment, OWNER, (7, u64::MAX));
    assert!(path.starts_with('/') && !path.ends_with('/') && !path.contains(['\\', '{', '}']), "{path}");
    assert!(!path.contains("//") && !path.contains(|c: char| c.is_control()), "{path:?}");
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path}");
    let itself = (&template, OWNER);
    // What is too long is refused before paths are compared.
    if template.too_long(OWNER).is_some() {
        return;
    }
    assert!(paths_can_meet(itself, itself), "{one} does not meet itself");
    if let Some(other) = Template::parse(other).ok().filter(|other| other.too_long(OTHER).is_none()) {
        let other = (&other, OTHER);
        assert_eq!(paths_can_meet(itself, other), paths_can_meet(other, itself));
        let same = other.0.render(&moment, OTHER, (7, u64::MAX)) == path;
        assert!(!same || paths_can_meet(itself, other), "both give {path}");
    }
}

/// The fields of a url that a recipe may name.
pub(crate) fn url_fields(text: &str) -> Option<Vec<String>> {
    UrlTemplate::from_text(text).ok().map(|url| url.fields)
}
