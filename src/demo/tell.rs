//! How the demo speaks: chapters, commands, what came back, and a mark for each thing that was checked.

use super::Trouble;

/// A heading.
pub(crate) fn chapter(title: &str) {
    println!("\n── {title}");
}

pub(crate) fn say(text: &str) {
    println!("   {text}");
}

/// A command as a user would type it.
pub(crate) fn command(arguments: &[&str]) {
    let quoted = |argument: &&str| match argument.contains(['{', ' ']) {
        true => format!("'{argument}'"),
        false => (*argument).to_owned(),
    };
    say(&format!("$ hms {}", arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")));
}

/// What a command or a partner said, set apart.
pub(crate) fn indented(text: &str) {
    for line in text.trim_end().lines() {
        println!("     {line}");
    }
}

/// What the demo looked at with its own eyes.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    failed: Vec<&'static str>,
}

impl Checks {
    pub fn expect(&mut self, what: &'static str, holds: bool) {
        say(&format!("{} {what}", if holds { '✓' } else { '✗' }));
        if !holds {
            self.failed.push(what);
        }
    }

    pub fn verdict(self) -> Result<(), Trouble> {
        if self.failed.is_empty() { Ok(()) } else { Err(Trouble(format!("not so: {}", self.failed.join("; ")))) }
    }
}
