//! JSON objects from columns. The values are the publisher's bytes; only names are written anew.

use super::shape::Column;

/// `{"name":value,…}` without white space; columns without a value are left out.
pub(super) fn write(columns: &[Column<'_>], out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    for (name, value) in columns.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
        if !first {
            out.push(b',');
        }
        first = false;
        serde_json::to_writer(&mut *out, name).expect("a string into memory");
        out.push(b':');
        out.extend_from_slice(value.raw().as_bytes());
    }
    out.push(b'}');
}
