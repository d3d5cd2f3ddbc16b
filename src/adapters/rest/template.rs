//! The url of a target, which may hold `{field}` in its path or query. A value fills its place and nothing
//! more: it can add no segment, no query and no host.

use std::collections::HashMap;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use hms_actors::event::Event;
use hms_actors::failure::Failure;

use crate::formats::Writer;

/// All but the unreserved characters of RFC 3986.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A url, cut at its fields.
#[derive(Debug, Clone)]
pub(super) struct Template {
    parts: Vec<Part>,
    /// The url with some value in its fields: its host and port are those of every request.
    base: Url,
    /// The same as text.
    text: Arc<str>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::configuration(format!("url `{text}`: {why}"));
        let parts = cut(text).map_err(wrong)?;
        let sample = |value: &str| {
            let filled = join(&parts, |_| Some(value.to_owned())).unwrap_or_default();
            checked(&filled).map_err(|why| wrong(&why))
        };
        let (base, other) = (sample("x")?, sample("y")?);
        if base.origin() != other.origin() {
            return Err(wrong("a {field} may stand in the path or the query, not in the host or the port"));
        }
        let text = base.as_str().into();
        Ok(Self { parts, base, text })
    }

    pub fn has_field(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field(_)))
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    /// A url of this template as text.
    pub fn text(&self, url: &Url) -> Arc<str> {
        if self.has_field() { url.as_str().into() } else { self.text.clone() }
    }

    /// The url for an event. Refused: a field is absent, null or empty, or makes a segment `.` or `..`.
    pub fn fill(&self, writer: &Writer<'_>, event: &Event) -> Result<Url, Failure> {
        if !self.has_field() {
            return Ok(self.base.clone());
        }
        let mut values = HashMap::new();
        for part in &self.parts {
            if let Part::Field(field) = part {
                values.insert(field.as_str(), writer.text(event, field)?);
            }
        }
        let value = |field: &str| values.get(field).cloned().flatten().filter(|text| !text.is_empty());
        let filled = join(&self.parts, value).map_err(|field| {
            let why = format!("event `{}`: field `{field}`, which the url needs, is absent, null or empty", event.id);
            Failure::refused(why)
        })?;
        checked(&filled).map_err(|why| Failure::refused(format!("event `{}`: url `{filled}`: {why}", event.id)))
    }
}

fn cut(mut text: &str) -> Result<Vec<Part>, &'static str> {
    let mut parts = Vec::new();
    while let Some((before, rest)) = text.split_once('{') {
        let (field, after) = rest.split_once('}').ok_or("a { has no }")?;
        if field.is_empty() {
            return Err("{} names no field");
        }
        parts.extend([Part::Text(before.to_owned()), Part::Field(field.to_owned())]);
        text = after;
    }
    parts.push(Part::Text(text.to_owned()));
    Ok(parts)
}

/// The parts with the values of the fields; the field that has none is an error.
fn join(parts: &[Part], value: impl Fn(&str) -> Option<String>) -> Result<String, &str> {
    let mut filled = String::new();
    for part in parts {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Field(field) => {
                let value = value(field).ok_or(field.as_str())?;
                filled.extend(utf8_percent_encode(&value, VALUE));
            }
        }
    }
    Ok(filled)
}

pub(super) fn checked(text: &str) -> Result<Url, String> {
    // The parser of urls would silently walk up: `/a/../b` is `/b` to it.
    let path = text.split(['?', '#']).next().unwrap_or_default();
    if path.split(['/', '\\']).any(is_dots) {
        return Err("a segment of its path is `.` or `..`".to_owned());
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("expected http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or a password: use `auth`".to_owned());
    }
    Ok(url)
}

fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::rest::testing::{event, source};
    use crate::formats::Shape;
    use hms_actors::failure::FailureKind;
    use proptest::prelude::*;

    fn fill(template: &str, data: &str) -> Result<String, Failure> {
        let shape = Shape::new(&source(), &[]);
        Template::parse(template)?.fill(&shape.open(0)?, &event("e-1", data)).map(String::from)
    }

    #[test]
    fn a_value_is_one_segment_or_one_query_value() {
        let data = r#"{"id":"a/../b?c#d&e=é %2f","n":12.50}"#;
        let url = fill("https://h.example:8443/v1/{id}/x?n={n}&id={id}", data).unwrap();
        let id = "a%2F..%2Fb%3Fc%23d%26e%3D%C3%A9%20%252f";
        assert_eq!(url, format!("https://h.example:8443/v1/{id}/x?n=12.50&id={id}"));
    }

    #[test]
    fn a_value_cannot_walk_up() {
        for (template, value) in [("{id}", ".."), ("{id}", "."), ("%2e{id}", "."), (".{id}", "."), ("{id}{id}", ".")] {
            let failure =
                fill(&format!("https://h/a/{template}/b"), &format!(r#"{{"id":"{value}"}}"#)).expect_err(template);
            assert_eq!(failure.kind, FailureKind::Refused, "{template}");
        }
        assert!(fill("https://h/a?x={id}", r#"{"id":".."}"#).is_ok());
    }

    #[test]
    fn a_value_that_is_not_there_is_refused_by_name() {
        for data in ["{}", r#"{"id":null}"#, r#"{"id":""}"#] {
            let failure = fill("https://h/{id}", data).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Refused);
            assert_eq!(failure.message, "event `e-1`: field `id`, which the url needs, is absent, null or empty");
        }
    }

    #[test]
    fn a_url_that_cannot_work_is_a_configuration_failure() {
        let wrong = [
            "https://{h}/a",
            "https://a{h}/",
            "https://h:{p}/",
            "https://u@h/",
            "https://u:p@h/",
            "ftp://h/",
            "h/a",
            "https://h/{a",
            "https://h/{}",
            "https://h/a/../b",
            "https://{u}@h/",
            "",
            "https://h/a/%2E%2e/b",
        ];
        for template in wrong {
            assert_eq!(fill(template, r#"{"h":"x","u":"x","p":"1"}"#).unwrap_err().kind, FailureKind::Configuration);
        }
    }

    proptest! {
        #[test]
        fn no_value_changes_anything_but_its_own_place(value: String) {
            let data = serde_json::json!({ "id": value }).to_string();
            if let Ok(url) = fill("https://h.example/a/{id}/b?q={id}", &data) {
                let url = Url::parse(&url).unwrap();
                let segments: Vec<_> = url.path_segments().unwrap().collect();
                prop_assert_eq!(segments.len(), 3);
                let decoded = percent_encoding::percent_decode_str(segments[1]).decode_utf8().unwrap();
                prop_assert_eq!(decoded.as_ref(), value.as_str());
                prop_assert_eq!(url.query_pairs().collect::<Vec<_>>(), vec![("q".into(), value.into())]);
                prop_assert_eq!((url.host_str(), url.fragment()), (Some("h.example"), None));
            }
        }
    }
}
