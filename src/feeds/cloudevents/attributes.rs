//! The attributes of one event and their rules, whichever way they came (body or headers).

use std::borrow::Cow;

use serde_json::Value;

use crate::feeds::draft::Draft;
use crate::feeds::json::{kind, shown};

/// Longest event id, in bytes.
const MAX_ID: usize = 256;
/// Longest value of any other attribute: they become headers, and partners bound those.
const MAX_VALUE: usize = 2048;
const MAX_EXTENSIONS: usize = 64;

/// What has been read so far.
#[derive(Debug, Default)]
pub struct Attributes<'a> {
    specversion: bool,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    extensions: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Attributes<'a> {
    /// Those of an event that was published as nothing but its data.
    pub fn plain(id: Option<Cow<'a, str>>, source: &'a str, kind: &'a str) -> Self {
        let id = id.or_else(|| Some(uuid::Uuid::now_v7().to_string().into()));
        Self { id, source: Some(source.into()), kind: Some(kind.into()), ..Self::default() }
    }

    /// An attribute of the JSON format that is no string, as it is written there. Null means that it is not set.
    pub fn set_json(&mut self, name: &str, json: &'a str) -> Result<(), String> {
        check_name(name)?;
        match serde_json::from_str(json) {
            Ok(Value::Null) => Ok(()),
            Ok(Value::Bool(_)) if !is_core(name) => self.set(name, json.into()),
            Ok(Value::Number(number)) if !is_core(name) && (number.is_i64() || number.is_u64()) => {
                self.set(name, json.into())
            }
            _ if is_core(name) => Err(format!("`{name}` must be a string, found {}", kind(json.as_bytes()))),
            _ => Err(format!(
                "extension attribute `{name}` must be a string, an integer or a boolean, found {}",
                kind(json.as_bytes())
            )),
        }
    }

    /// An attribute as text.
    pub fn set(&mut self, name: &str, value: Cow<'a, str>) -> Result<(), String> {
        check_name(name)?;
        check_value(name, &value)?;
        match name {
            "specversion" if value == "1.0" => self.specversion = true,
            "specversion" => return Err(format!("`specversion` must be `1.0`, found `{}`", shown(&value))),
            "id" => self.id = Some(value),
            "source" => self.source = Some(value),
            "type" => self.kind = Some(value),
            "subject" => self.subject = Some(value),
            "time" => self.time = Some(checked_time(value)?),
            "datacontenttype" if is_json(media_type(&value)) => {}
            "datacontenttype" => {
                return Err(format!("`datacontenttype` must be `application/json`, found `{}`", shown(&value)));
            }
            _ if self.extensions.len() == MAX_EXTENSIONS => {
                return Err(format!("more than {MAX_EXTENSIONS} extension attributes: put them into `data`"));
            }
            _ => self.extensions.push((name.to_owned().into(), value)),
        }
        Ok(())
    }

    /// `name` is what the publisher has to send.
    pub fn need_specversion(&self, name: &str) -> Result<(), String> {
        if self.specversion { Ok(()) } else { Err(format!("{name} is missing: send `1.0`")) }
    }

    pub fn into_event(self, data: Cow<'a, [u8]>) -> Result<Draft<'a>, String> {
        let required =
            |name: &str, value: Option<Cow<'a, str>>| value.ok_or_else(|| format!("attribute `{name}` is missing"));
        Ok(Draft {
            id: required("id", self.id)?,
            source: required("source", self.source)?,
            kind: required("type", self.kind)?,
            subject: self.subject,
            time: self.time,
            extensions: self.extensions,
            data,
        })
    }
}

fn is_core(name: &str) -> bool {
    matches!(name, "specversion" | "id" | "source" | "type" | "subject" | "time" | "datacontenttype" | "dataschema")
}

fn check_name(name: &str) -> Result<(), String> {
    let ok = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if ok {
        return Ok(());
    }
    Err(format!("attribute name `{}` must be of a-z and 0-9 only; data of your own goes into `data`", shown(name)))
}

fn check_value(name: &str, value: &str) -> Result<(), String> {
    let longest = if name == "id" { MAX_ID } else { MAX_VALUE };
    if value.is_empty() && is_core(name) {
        return Err(format!("`{name}` is empty: give it a value, or leave it out if it is optional"));
    }
    if value.len() > longest {
        return Err(format!("`{name}` is {} bytes long: at most {longest} are taken", value.len()));
    }
    // A control character begins with one of these bytes; most values hold none of them.
    if !value.bytes().any(|byte| byte < b' ' || byte == 0x7f || byte == 0xc2) {
        return Ok(());
    }
    match value.chars().find(|c| c.is_control()) {
        Some(control) => Err(format!("`{name}` holds the control character U+{:04X}", u32::from(control))),
        None => Ok(()),
    }
}

fn checked_time(value: Cow<'_, str>) -> Result<Cow<'_, str>, String> {
    match chrono::DateTime::parse_from_rfc3339(&value) {
        Ok(_) => Ok(value),
        Err(_) => Err(format!("`time` must be RFC 3339 as in `2026-11-23T10:00:00Z`, found `{}`", shown(&value))),
    }
}

/// A content type without its parameters.
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether a media type is JSON. The CloudEvents types have a meaning of their own.
pub fn is_json(media_type: &str) -> bool {
    if media_type == "application/json" {
        return true;
    }
    let media_type = media_type.to_ascii_lowercase();
    media_type == "application/json"
        || media_type.ends_with("+json") && !media_type.starts_with("application/cloudevents")
}
