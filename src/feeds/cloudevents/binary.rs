//! Attributes from HTTP headers: binary mode, and the one header of a plain body.

use std::borrow::Cow;

use hms_actors::id::FeedName;
use percent_encoding::percent_decode;

use super::attributes::{Attributes, media_type};
use super::{EnvelopeError, Headers};

/// Source of an event that was published as nothing but its data.
const PLAIN_SOURCE: &str = "/hms-sync/publish";

/// The media type of the request, in lower case. A charset other than UTF-8 is refused.
pub fn content_type(headers: &Headers) -> Result<String, EnvelopeError> {
    let mut given = headers.iter().filter(|(name, _)| name == "content-type");
    let (Some((_, value)), None) = (given.next(), given.next()) else {
        let found = if headers.iter().any(|(name, _)| name == "content-type") { "given twice" } else { "(none)" };
        return Err(EnvelopeError::ContentType { found: found.to_owned() });
    };
    let value = String::from_utf8_lossy(value).to_ascii_lowercase();
    let mut parameters = value.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let charset = parameters.find(|(name, _)| name.trim() == "charset").map(|(_, charset)| charset.trim());
    match charset {
        None | Some("utf-8" | "\"utf-8\"" | "utf8" | "us-ascii") => Ok(media_type(&value).to_owned()),
        Some(_) => Err(EnvelopeError::content_type(&value)),
    }
}

/// The attributes that the headers of a JSON body give.
pub fn attributes<'a>(headers: &'a Headers, feed: &'a FeedName) -> Result<Attributes<'a>, String> {
    let mut attributes = Attributes::default();
    let mut seen: Vec<&str> = Vec::new();
    let mut plain_id = None;
    for (name, value) in headers {
        let Some(attribute) = name.strip_prefix("ce-") else { continue };
        if seen.contains(&attribute) {
            return Err(format!("header `{name}` is there twice: give it once"));
        }
        if matches!(attribute, "data" | "datacontenttype") {
            return Err(format!("header `{name}` is not taken: the body is the data, `Content-Type` is its type"));
        }
        seen.push(attribute);
        let text: Cow<'a, str> = decode(name, value)?.into();
        if attribute == "id" {
            plain_id = Some(text.clone());
        }
        attributes.set(attribute, text)?;
    }
    if seen.iter().all(|&attribute| attribute == "id") {
        return Ok(Attributes::plain(plain_id, PLAIN_SOURCE, feed.as_str()));
    }
    attributes.need_specversion("header `ce-specversion`")?;
    Ok(attributes)
}

/// As the HTTP binding says: first the quotes, then one round of percent-decoding.
fn decode(name: &str, value: &[u8]) -> Result<String, String> {
    let unquoted = unquote(value);
    let decoded: Vec<u8> = percent_decode(&unquoted).collect();
    String::from_utf8(decoded).map_err(|_| format!("header `{name}` is not valid UTF-8: percent-encode UTF-8 bytes"))
}

fn unquote(value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii();
    let [b'"', inner @ .., b'"'] = value else { return value.to_vec() };
    let mut escaped = false;
    let keep = |byte: &u8| {
        escaped = *byte == b'\\' && !escaped;
        (!escaped).then_some(*byte)
    };
    inner.iter().filter_map(keep).collect()
}
