//! Reads policies: those that the node has, and those of a folder. Each file is checked by itself against the schema, so
//! that an error says file, line and column; a folder with one bad policy is refused whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use miette::Diagnostic as _;

use crate::yaml::diagnostics::{At, Collector, Diagnostics};

const SCHEMA: &str = include_str!("schema.cedarschema");

/// The node's own. A file of the same name in the folder takes its place.
const SHIPPED: [(&str, &str); 4] = [
    ("push.cedar", include_str!("policies/push.cedar")),
    ("no-pii-abroad.cedar", include_str!("policies/no-pii-abroad.cedar")),
    ("no-labels-unencrypted.cedar", include_str!("policies/no-labels-unencrypted.cedar")),
    ("approved-algorithms.cedar", include_str!("policies/approved-algorithms.cedar")),
];

/// A file of policies is at most so long.
const LONGEST: u64 = 1 << 20;

/// The schema, and policies that are valid by it.
pub fn load(folder: Option<&Path>) -> Result<(Schema, PolicySet), Diagnostics> {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
        .map_err(|error| Diagnostics::of_file("schema.cedarschema", error.to_string()))?;
    let mut files: BTreeMap<String, (String, String)> =
        SHIPPED.map(|(name, text)| (name.to_owned(), (format!("(shipped) {name}"), text.to_owned()))).into();
    if let Some(folder) = folder {
        files.extend(read(folder)?);
    }
    let mut all = PolicySet::new();
    for (name, (path, text)) in files {
        let stem = name.trim_end_matches(".cedar");
        for policy in checked(&schema, &path, stem, &text)? {
            let id = policy.id().clone();
            let twice =
                |_| Diagnostics::of_file(&path, format!("there is another policy `{id}`: give this one its own @id"));
            all.add(policy).map_err(twice)?;
        }
    }
    Ok((schema, all))
}

/// Name → path and text of each `*.cedar` in the folder.
fn read(folder: &Path) -> Result<BTreeMap<String, (String, String)>, Diagnostics> {
    let shown = folder.display().to_string();
    let failed = |error: std::io::Error| Diagnostics::of_file(&shown, format!("not readable: {error}"));
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "cedar") {
            continue;
        }
        let shown = path.display().to_string();
        let failed = |why: String| Diagnostics::of_file(&shown, why);
        let length = std::fs::metadata(&path).map_err(|error| failed(format!("not readable: {error}")))?.len();
        if length > LONGEST {
            return Err(failed("a file of policies has at most 1 MiB".to_owned()));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| failed(format!("not readable: {error}")))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        files.insert(name, (shown, text));
    }
    Ok(files)
}

/// The policies of one file, each with its id: `@id("…")`, else the file's name, numbered where there are more.
fn checked(schema: &Schema, path: &str, stem: &str, text: &str) -> Result<Vec<Policy>, Diagnostics> {
    let mut errors = Collector::new(path, text);
    let set = match PolicySet::from_str(text) {
        Ok(set) => set,
        Err(parse) => {
            for error in parse.iter() {
                errors.error(place(error, text), error.to_string());
            }
            return Err(errors.into_errors());
        }
    };
    if set.templates().next().is_some() {
        errors
            .error(At::START, "a template (`?principal`, `?resource`) links to nothing here")
            .help("write the policy out");
    }
    for error in Validator::new(schema.clone()).validate(&set, ValidationMode::Strict).validation_errors() {
        errors.error(place(error, text), words(error, &set));
    }
    let mut policies: Vec<&Policy> = set.policies().collect();
    // `policy0`, `policy1`, … as they stand in the file.
    policies.sort_by_key(|policy| policy.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or(0));
    let one = policies.len() == 1;
    let named = |(at, policy): (usize, &Policy)| {
        let numbered = || if one { stem.to_owned() } else { format!("{stem}:{}", at + 1) };
        policy.new_id(PolicyId::new(policy.annotation("id").map_or_else(numbered, str::to_owned)))
    };
    let policies = policies.into_iter().enumerate().map(named).collect();
    errors.finish(Some(policies))
}

/// An error of the validator names policies by numbers that nobody has written.
fn words(error: &cedar_policy::ValidationError, set: &PolicySet) -> String {
    let mut text = error.to_string();
    for policy in set.policies() {
        let number = policy.id().to_string();
        let known = policy.annotation("id").map_or_else(|| "this policy".to_owned(), |id| format!("policy `{id}`"));
        text = text.replace(&format!("for policy `{number}`"), &format!("for {known}"));
    }
    match error.help() {
        Some(help) => format!("{text} ({help})"),
        None => text,
    }
}

/// Where an error is.
fn place(error: &dyn miette::Diagnostic, text: &str) -> At {
    let Some(label) = error.labels().and_then(|mut labels| labels.next()) else { return At::START };
    let before = text.get(..label.offset()).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    let end = label.offset() + label.len();
    let marked = text.get(label.offset()..end).map_or(1, |marked| marked.lines().next().unwrap_or("").chars().count());
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    At { line: number(line), column: number(column), length: number(marked) }
}
