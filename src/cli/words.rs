//! Words that several commands use.

/// What went wrong, without where: a row says already which target it is. A message goes from the outside to the
/// cause (`no connection to host: Connection refused (os error 111)`), an HTTP answer the other way round.
pub(crate) fn in_a_few(error: &str) -> String {
    let line = error.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    if line.len() > 3 && line.as_bytes()[..3].iter().all(u8::is_ascii_digit) {
        return line.split(": ").next().unwrap_or(line).to_owned();
    }
    let without = match line.rsplit_once(" (") {
        Some((before, aside)) if aside.ends_with(')') => before,
        _ => line,
    };
    without.rsplit(": ").next().unwrap_or(without).to_owned()
}

/// `1 event`, `2 events`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_to_what_went_wrong() {
        for (error, words) in [
            ("no connection to gis.vdot.gov: Connection refused (os error 111)", "Connection refused"),
            ("no answer from gis.vdot.gov within 10s", "no answer from gis.vdot.gov within 10s"),
            ("503 Service Unavailable: {\"error\": \"busy\"}", "503 Service Unavailable"),
            ("sync@h:22: looking at `/a`: Permission denied (connect_to leads to 127.0.0.1:1)", "Permission denied"),
            ("ticket 3: the file is gone", "the file is gone"),
            ("\n  two\nlines", "two"),
            ("404", "404"),
            ("", ""),
            ("é: ü", "ü"),
        ] {
            assert_eq!(in_a_few(error), words);
        }
    }
}
