//! A recipe's projection (`fields`, `required`) and a target's renaming (`map`), compiled: which values of an
//! event go to the partner, in which order, under which names, protected or as they are. Not how they are written: that is json.rs and csv.rs.

use std::collections::{HashMap, HashSet};

use hms_actors::event::{Event, Key};
use hms_actors::failure::Failure;

use super::csv::{self, Records};
use super::object::{Object, Value};
use super::{json, key};
use crate::privacy::{Cover, Guard, Opened};
use crate::recipe::model::Source;

/// Among so many names one is found sooner by looking at each than by its hash.
const FEW: usize = 16;

/// What each event of a recipe becomes for one target.
#[derive(Debug, Clone)]
pub struct Shape {
    projection: Option<Projection>,
    /// Field → name at the partner, for fields that have another name there.
    renames: HashMap<String, String>,
    required: Vec<String>,
    key: Option<String>,
    guard: Option<Guard>,
}

/// `fields`, in order. They are distinct: the recipe's checker sees to it.
#[derive(Debug, Clone)]
struct Projection {
    fields: Vec<Field>,
    /// Field → its place in `fields`.
    places: HashMap<String, usize>,
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    /// Its name at the partner.
    partner: String,
    /// The same as JSON writes it.
    json: Vec<u8>,
}

/// A value on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent<'a> {
    /// The published bytes.
    Clear(Value<'a>),
    /// What stands in their place.
    Covered(Cover),
}

/// A column.
#[derive(Debug)]
pub(super) struct Column<'a> {
    /// At the partner.
    pub name: &'a str,
    /// The same as JSON writes it, if that is known before an event is.
    pub json: Option<&'a [u8]>,
    /// What goes there, `None` where the event has none.
    pub sent: Option<Sent<'a>>,
}

impl Shape {
    pub fn new(source: &Source, map: &[(String, String)]) -> Self {
        Self {
            projection: source.fields.as_ref().map(|fields| Projection::new(fields, map)),
            renames: map.iter().cloned().collect(),
            required: source.required.clone(),
            key: source.key.clone(),
            guard: None,
        }
    }

    /// The same, its values protected.
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// What the order of events is kept by: the `key` field, else the subject, else the event itself.
    /// A key that is null counts as absent. It is the value as published, and stays within the node.
    pub fn key(&self, event: &Event) -> Key {
        key::of(event, self.key.as_deref())
    }

    /// Whether an attribute of the envelope may go along. Without a guard none may.
    pub fn tells(&self, attribute: &str) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.treatments().attributes().allow(attribute))
    }

    /// The version of the partner's key that new work begins with; 0 where none is needed.
    pub fn seal(&self) -> Result<u32, Failure> {
        self.guard.as_ref().map_or(Ok(0), Guard::seal)
    }

    /// Ready to write, with the key of that version (0: today's). An error is a key that can't be had: then nothing of
    /// this target can be written.
    pub fn open(&self, seal: u32) -> Result<Writer<'_>, Failure> {
        let opened = self.guard.as_ref().map_or(Ok(None), |guard| guard.open(seal))?;
        Ok(Writer { shape: self, opened })
    }

    /// The CSV header record with its line end. Nothing if the recipe names no `fields`: then each event has its own.
    pub fn csv_header(&self, out: &mut Records) {
        if let Some(projection) = &self.projection {
            out.push(projection.fields.iter().map(|field| field.partner.as_str()));
        }
    }

    /// A field's name at the partner.
    fn name<'a>(&'a self, field: &'a str) -> &'a str {
        self.renames.get(field).map_or(field, String::as_str)
    }
}

/// A shape with the key that its values are protected with: the only way to a partner's bytes.
#[derive(Debug)]
pub struct Writer<'s> {
    shape: &'s Shape,
    opened: Option<Opened<'s>>,
}

impl Writer<'_> {
    /// The projected, renamed object as compact JSON. An absent field is absent; a null is null.
    /// Refused: a `required` field is absent (a null is there: it was published on purpose), two values
    /// would have the same name, or one can't be protected as it should be.
    pub fn json(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        let object = Object::of(event)?;
        json::write(&self.columns(event, &object)?, out);
        Ok(())
    }

    /// One CSV record (RFC 4180) with its line end. Null and absent are empty, nested values are JSON text.
    /// Refused: what [`Writer::json`] refuses, and text that a CSV file can't hold (a NUL character, half of a
    /// surrogate pair). Nothing is written then.
    pub fn csv(&self, event: &Event, out: &mut Records) -> Result<(), Failure> {
        let object = Object::of(event)?;
        let columns = self.columns(event, &object)?;
        let cells = columns
            .iter()
            .map(|column| csv::cell(event, column.name, column.sent.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        out.push(cells.iter().map(AsRef::as_ref));
        Ok(())
    }

    /// The text of a top-level field for use in a url: strings without quotes, the rest as published, protected
    /// like everywhere. `None` if it is absent or null, or has no text.
    pub fn text(&self, event: &Event, field: &str) -> Result<Option<String>, Failure> {
        let Some(value) = Value::of(event, field).filter(|value| !value.is_null()) else { return Ok(None) };
        Ok(match self.sent(event, field, value)? {
            Sent::Clear(value) => value.text().ok().map(|text| text.into_owned()),
            Sent::Covered(cover) => Some(cover.text()),
        })
    }

    /// What goes to the partner, in order: the `fields`, or all that was published.
    fn columns<'a>(&'a self, event: &Event, object: &'a Object<'a>) -> Result<Vec<Column<'a>>, Failure> {
        if let Some(missing) = self.shape.required.iter().find(|field| object.get(field).is_none()) {
            return Err(Failure::refused(format!("event `{}` has no field `{missing}`, which is required", event.id)));
        }
        let Some(projection) = &self.shape.projection else { return self.all(event, object) };
        let mut columns = projection.pick(object).map_err(|field| twice(event, field))?;
        if self.opened.is_some() {
            for (field, column) in projection.fields.iter().zip(&mut columns) {
                if let Some(Sent::Clear(value)) = column.sent {
                    column.sent = Some(self.sent(event, &field.name, value)?);
                }
            }
        }
        Ok(columns)
    }

    fn all<'a>(&'a self, event: &Event, object: &'a Object<'a>) -> Result<Vec<Column<'a>>, Failure> {
        let mut columns: Vec<Column<'a>> = Vec::with_capacity(object.0.len());
        let mut names = (object.0.len() > FEW).then(HashSet::new);
        for (field, value) in &object.0 {
            let name = self.shape.name(field);
            let is_new = match &mut names {
                Some(names) => names.insert(name),
                None => columns.iter().all(|column| column.name != name),
            };
            if !is_new {
                return Err(twice(event, name));
            }
            columns.push(Column { name, json: None, sent: Some(self.sent(event, field, *value)?) });
        }
        Ok(columns)
    }

    fn sent<'a>(&self, event: &Event, field: &str, value: Value<'a>) -> Result<Sent<'a>, Failure> {
        let cover = match &self.opened {
            Some(opened) => opened.cover(event, field, value.raw())?,
            None => None,
        };
        Ok(cover.map_or(Sent::Clear(value), Sent::Covered))
    }
}

impl Projection {
    fn new(fields: &[String], map: &[(String, String)]) -> Self {
        let field = |name: &String| {
            let partner = map.iter().rev().find(|(field, _)| field == name).map_or(name, |(_, partner)| partner);
            let json = serde_json::to_vec(partner).expect("a string into memory");
            Field { name: name.clone(), partner: partner.clone(), json }
        };
        let places = fields.iter().cloned().enumerate().map(|(place, field)| (field, place)).collect();
        Self { fields: fields.iter().map(field).collect(), places }
    }

    /// The fields with their values, in order; the name of a field that was published twice is an error.
    fn pick<'a>(&'a self, object: &'a Object<'a>) -> Result<Vec<Column<'a>>, &'a str> {
        let column = |field: &'a Field| Column { name: &field.partner, json: Some(&field.json), sent: None };
        let mut columns: Vec<_> = self.fields.iter().map(column).collect();
        // Publishers mostly have them in this order.
        let mut next = 0;
        for (field, value) in &object.0 {
            let is_next = self.fields.get(next).is_some_and(|other| other.name == *field);
            let place = if is_next { Some(next) } else { self.places.get(field.as_ref()).copied() };
            let Some(place) = place else { continue };
            if columns[place].sent.replace(Sent::Clear(*value)).is_some() {
                return Err(field);
            }
            next = place + 1;
        }
        Ok(columns)
    }
}

/// Which of the two is meant nobody can know, and it is money that is counted here.
fn twice(event: &Event, name: &str) -> Failure {
    Failure::refused(format!("event `{}` would have two values named `{name}`", event.id))
}

#[cfg(test)]
mod tests;
