//! Tests of what partners get: bytes in, bytes out.

use super::*;
use crate::recipe::model::From;
use hms_actors::failure::FailureKind;
use hms_actors::id::{FeedName, Timestamp};
use hms_actors::settings::LineEnd;
use proptest::prelude::*;

fn source(fields: Option<&[&str]>) -> Source {
    Source {
        feed: FeedName::parse("grants").unwrap(),
        fields: fields.map(|fields| fields.iter().map(|field| field.to_string()).collect()),
        key: None,
        from: From::Now,
        required: Vec::new(),
        labels: Vec::new(),
    }
}

fn event(data: &str) -> Event {
    Event {
        offset: 7,
        published: Timestamp(0),
        id: "e-1".into(),
        source: "/grants".into(),
        kind: "updated".into(),
        subject: None,
        time: None,
        extensions: Vec::new(),
        data: data.as_bytes().to_vec().into(),
    }
}

fn map(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect()
}

fn json(shape: &Shape, data: &str) -> Result<String, Failure> {
    let mut out = Vec::new();
    shape.open(0)?.json(&event(data), &mut out).map(|()| String::from_utf8(out).unwrap())
}

fn csv(shape: &Shape, data: &str) -> Result<String, Failure> {
    let mut out = Records::new(LineEnd::Lf);
    shape.open(0)?.csv(&event(data), &mut out).map(|()| String::from_utf8(out.into_bytes()).unwrap())
}

const GRANT: &str = r#"{"grant_id":"G-1","status":"approved","amount_usd":1250.10,"lat":44.26,"lon":-72.58}"#;

#[test]
fn fields_choose_and_order_and_map_renames() {
    let shape = Shape::new(&source(Some(&["amount_usd", "grant_id"])), &map(&[("grant_id", "id"), ("lat", "y")]));
    assert_eq!(json(&shape, GRANT).unwrap(), r#"{"amount_usd":1250.10,"id":"G-1"}"#);
    assert_eq!(csv(&shape, GRANT).unwrap(), "1250.10,G-1\n");
}

#[test]
fn without_fields_all_goes_in_published_order() {
    let shape = Shape::new(&source(None), &map(&[("status", "state")]));
    assert_eq!(json(&shape, r#"{"z":1,"status":"s","a":2}"#).unwrap(), r#"{"z":1,"state":"s","a":2}"#);
    assert_eq!(csv(&shape, r#"{"z":1,"status":"s","a":2}"#).unwrap(), "1,s,2\n");
}

#[test]
fn values_keep_every_digit_and_escape() {
    let data = r#"{"a":1250.10,"b":12345678901234567890,"c":1E5,"d":"\u00e9\/\n","e":{"x":[1.0,-0]},"f":-0.0e-7,"g":"\ud800"}"#;
    assert_eq!(json(&Shape::new(&source(None), &[]), data).unwrap(), data);
}

#[test]
fn an_absent_field_is_absent_in_json_and_empty_in_csv() {
    let shape = Shape::new(&source(Some(&["a", "b", "c"])), &[]);
    assert_eq!(json(&shape, r#"{"c":null,"a":1}"#).unwrap(), r#"{"a":1,"c":null}"#);
    assert_eq!(csv(&shape, r#"{"c":null,"a":1}"#).unwrap(), "1,,\n");
    assert_eq!(json(&shape, "{}").unwrap(), "{}");
    assert_eq!(csv(&shape, "{}").unwrap(), ",,\n");
}

#[test]
fn a_row_without_text_is_still_a_row() {
    assert_eq!(csv(&Shape::new(&source(Some(&["a"])), &[]), "{}").unwrap(), "\"\"\n");
    assert_eq!(csv(&Shape::new(&source(None), &[]), "{}").unwrap(), "\"\"\n");
}

#[test]
fn a_required_field_must_be_there_and_may_be_null() {
    let shape = Shape::new(&Source { required: vec!["a".into()], ..source(Some(&["b"])) }, &[]);
    assert_eq!(json(&shape, r#"{"a":null,"b":2}"#).unwrap(), r#"{"b":2}"#);
    for failure in [json(&shape, r#"{"b":2}"#).unwrap_err(), csv(&shape, r#"{"b":2}"#).unwrap_err()] {
        assert_eq!(failure.kind, FailureKind::Refused);
        assert_eq!(failure.message, "event `e-1` has no field `a`, which is required");
    }
}

#[test]
fn two_values_of_one_name_are_refused() {
    let renamed = Shape::new(&source(None), &map(&[("grant_id", "id")]));
    assert_eq!(
        json(&renamed, r#"{"id":1,"grant_id":2}"#).unwrap_err().message,
        "event `e-1` would have two values named `id`"
    );
    let chosen = Shape::new(&source(Some(&["a"])), &[]);
    assert!(csv(&chosen, r#"{"a":1,"\u0061":2}"#).is_err());
    assert!(csv(&chosen, r#"{"a":1,"b":2,"b":3}"#).is_ok());
}

#[test]
fn csv_quotes_what_rfc_4180_wants_quoted() {
    let shape = Shape::new(&source(None), &[]);
    let data = r#"{"a":"x,y","b":"say \"hi\"","c":"two\nlines","d":{"k":["v",null]},"e":true,"f":" plain "}"#;
    let row = "\"x,y\",\"say \"\"hi\"\"\",\"two\nlines\",\"{\"\"k\"\":[\"\"v\"\",null]}\",true, plain \n";
    assert_eq!(csv(&shape, data).unwrap(), row);
}

#[test]
fn csv_refuses_text_that_a_file_cannot_hold() {
    let shape = Shape::new(&source(None), &[]);
    let nul = csv(&shape, r#"{"a":"x\u0000"}"#).unwrap_err();
    assert_eq!(nul.kind, FailureKind::Refused);
    assert_eq!(nul.message, "event `e-1`, field `a`: the string holds a NUL character, which a CSV file can't carry");
    assert!(csv(&shape, r#"{"a":"\ud800"}"#).unwrap_err().message.contains("surrogate"));
}

#[test]
fn the_header_has_the_partners_names_and_the_line_end() {
    let shape = Shape::new(&source(Some(&["grant_id", "a,b"])), &map(&[("grant_id", "id")]));
    let mut out = Records::new(LineEnd::CrLf);
    shape.csv_header(&mut out);
    assert_eq!(out.into_bytes(), b"id,\"a,b\"\r\n");
    let mut none = Records::new(LineEnd::Lf);
    Shape::new(&source(None), &[]).csv_header(&mut none);
    assert!(none.into_bytes().is_empty());
}

#[test]
fn data_that_is_not_an_object_is_refused_and_not_a_panic() {
    let shape = Shape::new(&Source { key: Some("a".into()), ..source(None) }, &[]);
    for data in ["", "[1]", "7", "{\"a\":", "{\"a\":1}x", "\u{7f}"] {
        assert_eq!(json(&shape, data).unwrap_err().kind, FailureKind::Refused, "{data}");
        assert_eq!(shape.key(&event(data)), Key::Own(7));
        assert_eq!(shape.open(0).unwrap().text(&event(data), "a").unwrap(), None);
    }
}

#[test]
fn a_key_is_the_field_else_the_subject_else_the_event() {
    let shape = Shape::new(&Source { key: Some("id".into()), ..source(Some(&["b"])) }, &[]);
    let key = |data: &str| shape.key(&event(data));
    assert_eq!(key(r#"{"id":"A"}"#), key(r#"{"b":1,"id":"\u0041"}"#));
    assert_ne!(key(r#"{"id":"7"}"#), key(r#"{"id":7}"#));
    assert_ne!(key(r#"{"id":"[1]"}"#), key(r#"{"id":[1]}"#));
    assert_eq!(key(r#"{"id":null}"#), Key::Own(7));
    assert_eq!(key("{}"), Key::Own(7));
    let subject = Event { subject: Some("A".into()), ..event(r#"{"id":null}"#) };
    assert_eq!(shape.key(&subject), key(r#"{"id":"A"}"#));
}

#[test]
fn a_long_key_takes_little_memory() {
    let shape = Shape::new(&Source { key: Some("id".into()), ..source(None) }, &[]);
    let key = |last: char| shape.key(&event(&format!(r#"{{"id":"{}{last}"}}"#, "x".repeat(10_000))));
    assert_ne!(key('a'), key('b'));
    assert!(matches!(key('a'), Key::Value(bytes) if bytes.len() < 64));
}

#[test]
fn text_is_a_value_without_its_quotes() {
    let shape = Shape::new(&source(Some(&["b"])), &[]);
    let writer = shape.open(0).unwrap();
    let data = r#"{"a":"x\u002fy","n":1250.10,"t":true,"z":null,"s":"\ud800"}"#;
    let text = |field| writer.text(&event(data), field).unwrap();
    assert_eq!(text("a").as_deref(), Some("x/y"));
    assert_eq!(text("n").as_deref(), Some("1250.10"));
    assert_eq!(text("t").as_deref(), Some("true"));
    assert_eq!((text("z"), text("s"), text("gone")), (None, None, None));
}

/// A number as anybody might write it, within the grammar of JSON.
const NUMBER: &str = r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?";

/// A published value and the text that a CSV reader should see.
fn value() -> impl Strategy<Value = (String, String)> {
    let number = NUMBER.prop_map(|number| (number.clone(), number));
    let string = any::<String>().prop_filter("NUL is refused", |text| !text.contains('\0'));
    let string = string.prop_map(|text| (serde_json::to_string(&text).unwrap(), text));
    let nested = proptest::collection::vec(NUMBER, 0..4).prop_map(|items| format!("[{}]", items.join(",")));
    let nested = nested.prop_map(|list| (format!(r#"{{"k":{list}}}"#), format!(r#"{{"k":{list}}}"#)));
    let plain = prop_oneof![Just(("true".into(), "true".into())), Just(("null".into(), String::new()))];
    prop_oneof![number, string, nested, plain]
}

fn data(values: &[(String, (String, String))]) -> String {
    let fields: Vec<_> = values.iter().map(|(name, (raw, _))| format!("{}:{raw}", serde_json::json!(name))).collect();
    format!("{{{}}}", fields.join(","))
}

proptest! {
    #[test]
    fn any_object_is_carried_byte_for_byte(values in proptest::collection::btree_map(any::<String>(), value(), 0..8)) {
        let data = data(&values.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(json(&Shape::new(&source(None), &[]), &data).unwrap(), data);
    }

    #[test]
    fn a_csv_reader_gets_every_value_back(
        values in proptest::collection::btree_map("[a-z]{1,4}", value(), 1..8),
        crlf: bool,
    ) {
        let values: Vec<_> = values.into_iter().collect();
        let fields: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
        let end = if crlf { LineEnd::CrLf } else { LineEnd::Lf };
        let shape = Shape::new(&source(Some(&fields)), &[]);
        let mut out = Records::new(end);
        shape.csv_header(&mut out);
        shape.open(0).unwrap().csv(&event(&data(&values)), &mut out).unwrap();
        let out = out.into_bytes();
        prop_assert!(out.ends_with(end.as_bytes()));

        let mut reader = ::csv::Reader::from_reader(out.as_slice());
        prop_assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), fields);
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        prop_assert_eq!(rows.len(), 1);
        let texts: Vec<&str> = values.iter().map(|(_, (_, text))| text.as_str()).collect();
        prop_assert_eq!(rows[0].iter().collect::<Vec<_>>(), texts);
    }

    #[test]
    fn no_bytes_make_it_panic(data in proptest::collection::vec(any::<u8>(), 0..40)) {
        let shape = Shape::new(&Source { key: Some("a".into()), ..source(None) }, &[]);
        let event = Event { data: data.into(), ..event("") };
        let writer = shape.open(0).unwrap();
        let _ = (writer.json(&event, &mut Vec::new()), shape.key(&event), writer.text(&event, "a"));
        let _ = writer.csv(&event, &mut Records::new(LineEnd::Lf));
    }
}
