//! What is fuzzed here: the filling of a url with an event's values (see src/fuzzed.rs).

use hms_actors::id::{FeedName, Timestamp};

use super::template::Template;
use crate::formats::Shape;
use crate::recipe::model::{From, Source};
use hms_actors::event::Event;

/// A url that fields fill: refused, or it leads to the template's own host and port, with as many segments.
pub(crate) fn url_template(url: &str, fields: &[String], value: &str) {
    let Ok(template) = Template::parse(url) else { return };
    let feed = FeedName::parse("grants").expect("a name");
    let (required, labels) = (Vec::new(), Default::default());
    let source = Source { feed, fields: None, key: None, from: From::Now, required, labels };
    let shape = Shape::new(&source, &[]);
    let writer = shape.open(0).expect("nothing is protected, so that no key is missing");
    let data: serde_json::Map<_, _> = fields.iter().map(|field| (field.clone(), value.into())).collect();
    let event = Event {
        offset: 7,
        published: Timestamp(0),
        id: "e-1".to_owned(),
        source: "/fuzzed".into(),
        kind: "fuzzed".into(),
        subject: None,
        time: None,
        extensions: Vec::new(),
        data: serde_json::Value::from(data).to_string().into(),
    };
    let Ok(filled) = template.fill(&writer, &event) else { return };
    let base = template.base();
    assert_eq!(filled.origin(), base.origin(), "{filled}");
    assert_eq!((filled.username(), filled.password()), ("", None), "{filled}");
    let segments = |url: &url::Url| url.path_segments().map(Iterator::count);
    assert_eq!(segments(&filled), segments(base), "{filled}");
    assert_eq!(filled.query_pairs().count(), base.query_pairs().count(), "{filled}");
}
