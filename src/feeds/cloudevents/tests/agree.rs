//! The reader of requests against a plain one: trees of serde_json, put together again.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// A text that a request may hold, with white space, escapes and mistakes where they may be.
fn body() -> impl Strategy<Value = String> {
    let space = "[ \t\r\n]{0,2}";
    let text = prop_oneof![
        4 => "[a-z0-9/._-]{0,12}",
        1 => "[ -~]{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap().trim_matches('"').to_owned()),
        1 => any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap().trim_matches('"').to_owned()),
        1 => r"(\\u00[0-9a-f]{2}|\\ud83d\\ude00|\\n|\\/|é|\\ud800|\\x|\u{7f}|\u{85}){0,3}",
    ];
    let scalar = prop_oneof![
        text.clone().prop_map(|text| format!("\"{text}\"")),
        "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        "(null|true|false|-|01|1\\.|nul|\\+1|-0)",
    ];
    let value = scalar.prop_recursive(4, 24, 5, move |inner| {
        let key = prop_oneof!["\"[ab]\"", "\"[a-z]{1,9}\"", Just("\"\\u0061\"".to_owned())];
        let member = (space, key, space, space, inner.clone(), space)
            .prop_map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
        prop_oneof![
            proptest::collection::vec((space, inner, space), 0..4).prop_map(|items| {
                let items: Vec<_> = items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
                format!("[{}]", items.join(","))
            }),
            (proptest::collection::vec(member, 0..5), space)
                .prop_map(|(members, space)| format!("{{{}{space}}}", members.join(","))),
        ]
    });
    let name = prop_oneof![
        4 => "(id|source|type|subject|time|datacontenttype|dataschema|x|traceparent)",
        1 => "(specversion|data|data_base64|Big|i\\\\u0064)",
    ];
    let time = Just("\"2026-11-29T14:38:41Z\"".to_owned());
    let attribute =
        (name, prop_oneof![3 => text.prop_map(|text| format!("\"{text}\"")), 1 => time, 1 => value.clone()]);
    let event = (proptest::collection::vec(attribute, 0..5), value, 0..16u8, space).prop_map(
        |(attributes, data, without, space)| {
            let mut members: Vec<String> =
                attributes.into_iter().map(|(name, value)| format!("\"{name}\":{space}{value}")).collect();
            let wanted = [("specversion", "\"1.0\""), ("id", "\"e\""), ("source", "\"s\""), ("type", "\"t\"")];
            for (n, (name, value)) in wanted.into_iter().enumerate() {
                let there = members.iter().any(|member| member.starts_with(&format!("\"{name}\"")));
                if !there && usize::from(without) != n {
                    members.push(format!("\"{name}\"{space}:{value}"));
                }
            }
            if without != 4 {
                members.push(format!("\"data\":{}{data}", space));
            }
            format!("{{{}}}{space}", members.join(","))
        },
    );
    let many = proptest::collection::vec(event, 1..4);
    let whole = (many, "(|\\[|\\])", "(\n|,|\r\n|,\n| )").prop_map(|(events, open, between)| match open.as_str() {
        "[" => format!("[{}]", events.join(",")),
        other => events.join(&between) + other,
    });
    (whole, proptest::collection::vec((any::<prop::sample::Index>(), "[\"{}\\[\\],:\\\\ 0a\n]?"), 0..2)).prop_map(
        |(mut text, changes)| {
            for (at, new) in changes {
                let at = at.index(text.len().max(1));
                if text.is_char_boundary(at) && text.is_char_boundary(at + 1) && at < text.len() {
                    text.replace_range(at..at + 1, &new);
                }
            }
            text
        },
    )
}

const TYPES: [&str; 4] = [STRUCTURED, BATCH, NDJSON, "application/json"];

fn all_types(body: &[u8], check: impl Fn(&str, Result<Vec<NewEvent>, String>)) {
    for content_type in TYPES {
        let headers = headers(&[("content-type", content_type), ("ce-id", "mine")]);
        let read = read(&feed(), &headers, body);
        check(content_type, read.map(|batch| batch.to_events()).map_err(|error| error.to_string()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_request_is_read_as_a_plain_reader_reads_it(body in body(), bad: Option<(prop::sample::Index, u8)>) {
        let mut body = body.into_bytes();
        if let Some((at, byte)) = bad.filter(|(_, byte)| byte % 8 == 0 && !body.is_empty()) {
            let at = at.index(body.len());
            body[at] = byte;
        }
        all_types(&body, |content_type, read| {
            assert_eq!(read.ok(), plain(content_type, &body), "{content_type}: {}", String::from_utf8_lossy(&body));
        });
    }
}

/// The events of a body, by trees; `None` if it is refused.
fn plain(content_type: &str, body: &[u8]) -> Option<Vec<NewEvent>> {
    let text = std::str::from_utf8(body).ok()?;
    match content_type {
        STRUCTURED => plain_event(&tight(text, MAX_DEPTH + 1)?).map(|event| vec![event]),
        BATCH => {
            let text = tight(text, MAX_DEPTH + 2)?;
            let events: Vec<&RawValue> = serde_json::from_str(&text).ok()?;
            events.into_iter().map(|event| plain_event(event.get())).collect()
        }
        NDJSON => {
            let lines = text.split('\n').filter(|line| !line.bytes().all(|byte| byte.is_ascii_whitespace()));
            let events: Option<Vec<_>> = lines.map(|line| plain_event(&tight(line, MAX_DEPTH + 1)?)).collect();
            events.filter(|events| !events.is_empty())
        }
        _ => {
            let data = tight(text, MAX_DEPTH)?;
            let wrapped = format!(
                r#"{{"specversion":"1.0","id":"mine","source":"/hms-sync/publish","type":"grants.updated","data":{data}}}"#
            );
            plain_event(&wrapped).map(|event| vec![event])
        }
    }
}

/// An event without white space.
fn plain_event(text: &str) -> Option<NewEvent> {
    let members: Members = serde_json::from_str(text).ok()?;
    let mut event = NewEvent {
        id: String::new(),
        source: String::new(),
        kind: String::new(),
        subject: None,
        time: None,
        extensions: Vec::new(),
        data: Bytes::new(),
    };
    let mut version = false;
    for (name, value) in members.0 {
        let name: String = serde_json::from_str(name.get()).ok()?;
        let written = value.get();
        if name == "data" {
            event.data = Some(written).filter(|data| data.starts_with('{'))?.to_owned().into();
            continue;
        }
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return None;
        }
        let core = ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];
        let core = core.contains(&name.as_str());
        let text = match serde_json::from_str(written) {
            Ok(serde_json::Value::Null) => continue,
            Ok(serde_json::Value::String(text)) => text,
            Ok(serde_json::Value::Bool(_)) if !core => written.to_owned(),
            Ok(serde_json::Value::Number(number)) if !core && !number.is_f64() => written.to_owned(),
            _ => return None,
        };
        let longest = if name == "id" { 256 } else { 2048 };
        if text.is_empty() && core || text.len() > longest || text.chars().any(char::is_control) {
            return None;
        }
        match name.as_str() {
            "specversion" if text == "1.0" => version = true,
            "specversion" => return None,
            "id" => event.id = text,
            "source" => event.source = text,
            "type" => event.kind = text,
            "subject" => event.subject = Some(text),
            "time" => event.time = chrono::DateTime::parse_from_rfc3339(&text).ok().map(|_| Some(text))?,
            "datacontenttype" if attributes::is_json(attributes::media_type(&text)) => {}
            "datacontenttype" => return None,
            _ => event.extensions.push((name, text)),
        }
    }
    let there = version && ![&event.id, &event.source, &event.kind].iter().any(|text| text.is_empty());
    (there && !event.data.is_empty()).then_some(event)
}

/// JSON without white space, if it is sound: strings that can be held, no key twice, and not too deep.
fn tight(text: &str, levels: usize) -> Option<String> {
    let value: &RawValue = serde_json::from_str(text).ok()?;
    let text = value.get();
    match text.as_bytes()[0] {
        b'{' => {
            let Members(members) = serde_json::from_str(text).ok()?;
            let mut keys = std::collections::HashSet::new();
            let members = members.into_iter().map(|(key, value)| {
                let known = !keys.insert(serde_json::from_str::<String>(key.get()).ok()?);
                if known {
                    None
                } else {
                    Some(format!("{}:{}", key.get(), tight(value.get(), levels.checked_sub(1)?)?))
                }
            });
            let members: Vec<String> = members.collect::<Option<_>>()?;
            levels.checked_sub(1).map(|_| format!("{{{}}}", members.join(",")))
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let items = items.into_iter().map(|item| tight(item.get(), levels.checked_sub(1)?));
            let items: Vec<String> = items.collect::<Option<_>>()?;
            levels.checked_sub(1).map(|_| format!("[{}]", items.join(",")))
        }
        b'"' => serde_json::from_str::<String>(text).ok().map(|_| text.to_owned()),
        _ => Some(text.to_owned()),
    }
}

/// The members of an object, in order, as they are written.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> serde::de::Visitor<'de> for Visitor<'a> {
            type Value = Members<'a>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor(std::marker::PhantomData))
    }
}

/// The texts that fuzzing begins with.
#[test]
fn the_corpus_is_read_as_a_plain_reader_reads_it() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/chaos-tests/fuzz/corpus/publish");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read(file.unwrap().path()).unwrap();
        let head = text.windows(2).position(|pair| pair == b"\n\n").map_or(0, |head| head + 2);
        for body in [&text[head..], text.as_slice()] {
            all_types(body, |content_type, read| assert_eq!(read.ok(), plain(content_type, body), "{content_type}"));
        }
        seen += 1;
    }
    assert!(seen > 5);
}
