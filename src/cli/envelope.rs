//! The structured CloudEvent that `hms ppe event publish` sends. The publisher's data is carried as the bytes that
//! it was given in: it is never read into numbers and written again.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// What the command line may say about an event. An absent id is made here, once, before the first try.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub id: Option<String>,
    pub subject: Option<String>,
    pub time: Option<String>,
}

/// The event as JSON text. `kind` is the CloudEvents `type`.
pub(crate) fn wrap(kind: &str, attributes: Attributes, data: &RawValue) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Envelope {
        specversion: "1.0",
        id: attributes.id.unwrap_or_else(|| Uuid::now_v7().to_string()),
        source: "/hms/ppe",
        kind,
        subject: attributes.subject,
        time: attributes.time,
        datacontenttype: "application/json",
        data,
    })
}

/// Whether a JSON text is an event already, rather than the data of one.
pub(crate) fn is_event(json: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        specversion: Option<IgnoredAny>,
    }
    let object = json.get().starts_with('{');
    object && serde_json::from_str::<Probe>(json.get()).is_ok_and(|probe| probe.specversion.is_some())
}

#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'static str,
    id: String,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn data_is_carried_digit_for_digit() {
        let data = r#"{"amount_usd": 1250.10, "account":12345678901234567890123, "note":"\u00e9\/"}"#;
        let event = wrap("grants", Attributes::default(), &raw(data)).expect("serialises");
        assert!(event.contains(&format!("\"data\":{data}")), "{event}");
    }

    #[test]
    fn an_id_is_made_unless_one_is_given() {
        let of = |attributes: Attributes| -> serde_json::Value {
            serde_json::from_str(&wrap("grants", attributes, &raw("{}")).expect("serialises")).expect("JSON")
        };
        assert_eq!(of(Attributes { id: Some("a".into()), ..Attributes::default() })["id"], "a");
        let made = of(Attributes::default())["id"].as_str().map(str::to_owned).expect("an id");
        assert_eq!(Uuid::parse_str(&made).map(|id| id.get_version_num()), Ok(7));
    }

    #[test]
    fn an_event_is_told_from_plain_data() {
        assert!(is_event(&raw(r#"{"specversion":"1.0","id":"a"}"#)));
        assert!(!is_event(&raw(r#"{"grant_id":"GR-42"}"#)));
        assert!(!is_event(&raw("[1]")));
    }
}
