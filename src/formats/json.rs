//! JSON objects from columns. The values are the publisher's bytes, or what protects them; only names are written anew.

use super::shape::{Column, Sent};
use crate::privacy::Cover;
use crate::proof::canonical::text;

/// `{"name":value,…}` without white space; columns without a value are left out.
pub(super) fn write(columns: &[Column<'_>], out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    for column in columns {
        let Some(value) = &column.sent else { continue };
        if !first {
            out.push(b',');
        }
        first = false;
        match column.json {
            Some(name) => out.extend_from_slice(name),
            None => text(column.name, out),
        }
        out.push(b':');
        match value {
            Sent::Clear(value) => out.extend_from_slice(value.raw().as_bytes()),
            Sent::Covered(Cover::Text(cover)) => text(cover, out),
            Sent::Covered(Cover::Nothing) => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}
