//! An event between its request and the journal: checked, its texts where the publisher's request has them.

use std::borrow::Cow;

use super::NewEvent;

/// [`NewEvent`], borrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft<'a> {
    pub id: Cow<'a, str>,
    pub source: Cow<'a, str>,
    pub kind: Cow<'a, str>,
    pub subject: Option<Cow<'a, str>>,
    pub time: Option<Cow<'a, str>>,
    pub extensions: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub data: Cow<'a, [u8]>,
}

impl<'a> From<&'a NewEvent> for Draft<'a> {
    fn from(event: &'a NewEvent) -> Self {
        let borrowed = |(name, value): &'a (String, String)| (name.into(), value.into());
        Self {
            id: (&event.id).into(),
            source: (&event.source).into(),
            kind: (&event.kind).into(),
            subject: event.subject.as_ref().map(Cow::from),
            time: event.time.as_ref().map(Cow::from),
            extensions: event.extensions.iter().map(borrowed).collect(),
            data: Cow::Borrowed(&event.data),
        }
    }
}
