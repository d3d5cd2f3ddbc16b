//! From a document to the checked model: defaults, and what keys mean together. The keys themselves are read
//! in `grammar`.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use hms_actors::id::RecipeId;
use hms_actors::policy::circuit::CircuitSettings;
use hms_actors::policy::rate::RateSettings;
use hms_actors::settings::{LineEnd, OnDeny, OnDoubt, WriteMode};

use super::auth;
use super::grammar::{CircuitDoc, ONLY_FOR, RateLimitDoc, RecipeDoc, SourceDoc, TargetDoc};
use super::headers;
use super::model::{
    Adapter, Batch, BatchFormat, FileFormat, FileTarget, From, Method, Recipe, RestTarget, SftpTarget, Source, Target,
};
use super::template::Owner;
use super::values::{AdapterKind, Classification, Idempotency, Protection};
use crate::catalog;
use crate::yaml::diagnostics::{Collector, nearest, one_of, quoted};
use crate::yaml::grammar::{Field, Located};
use crate::yaml::values::{Pairs, Text};

const TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);
const SHORTEST_OPEN: Duration = Duration::from_millis(100);
const RETRIES: u64 = 3;
const CONCURRENCY: u64 = 8;

/// The model of a document. `None` only if an error was reported.
pub fn recipe(doc: RecipeDoc, text: &str, errors: &mut Collector<'_>) -> Option<Recipe> {
    let id = doc.id.map(|id| id.value);
    let source = doc.source.and_then(|source| check_source(source.value, errors));
    let fields = source.as_ref().and_then(|source| source.fields.as_deref());
    let docs = doc.targets.map(|targets| targets.value).unwrap_or_default();
    check_names(&docs, errors);
    let known_source = source.is_some();
    let targets: Vec<Target> = docs
        .into_iter()
        .filter_map(|target| Check { id: id.as_ref(), fields, known_source, errors }.target(target.value))
        .collect();
    Some(Recipe {
        id: id?,
        source: source?,
        targets,
        schedule: doc.schedule?.value,
        retries: u32::try_from(doc.retries.map_or(RETRIES, |retries| retries.value.0)).unwrap_or(u32::MAX),
        text: text.to_owned(),
    })
}

fn check_source(doc: SourceDoc, errors: &mut Collector<'_>) -> Option<Source> {
    for list in [&doc.fields, &doc.required].into_iter().flatten() {
        let mut seen = HashSet::new();
        for field in list.value.iter().filter(|field| !seen.insert(&field.value.0)) {
            errors.error(field.at, format!("{} is in the list twice", quoted(&field.value.0)));
        }
    }
    let names = |list: Vec<Located<Text>>| list.into_iter().map(|field| field.value.0).collect();
    Some(Source {
        feed: doc.feed?.value,
        fields: doc.fields.map(|fields| names(fields.value)),
        key: doc.key.map(|key| key.value.0),
        from: doc.from.map_or(From::Now, |from| from.value),
        required: doc.required.map(|fields| names(fields.value)).unwrap_or_default(),
        labels: catalog::fields(doc.labels.map(|labels| labels.value.0).unwrap_or_default(), errors),
    })
}

/// Names are unique, and an old name is claimed once and by nobody who still has it.
fn check_names(targets: &[Located<TargetDoc>], errors: &mut Collector<'_>) {
    let mut names = HashMap::new();
    for name in targets.iter().filter_map(|target| target.value.name.as_ref()) {
        if let Some(first) = names.insert(&name.value, name.at) {
            let error = errors.error(name.at, format!("a second target named `{}`", name.value));
            error.help(format!("the other one is in line {}", first.line));
        }
    }
    let mut old_names = HashSet::new();
    for old in targets.iter().filter_map(|target| target.value.renamed_from.as_ref()) {
        if names.contains_key(&old.value) {
            errors.error(old.at, format!("`{}` is still the name of a target of this recipe", old.value));
        } else if !old_names.insert(&old.value) {
            errors.error(old.at, format!("two targets want to take over from `{}`", old.value));
        }
    }
}

/// `None` only if an error was reported.
fn rate(doc: RateLimitDoc) -> Option<RateSettings> {
    let (rate, burst) = match doc {
        RateLimitDoc::Short(rate) => (rate, 1),
        RateLimitDoc::Table(table) => (table.rate?.value, table.burst.map_or(1, |burst| burst.value.0)),
    };
    let burst = u32::try_from(burst).ok().and_then(NonZeroU32::new)?;
    Some(RateSettings { count: NonZeroU32::new(rate.requests)?, per: rate.per, burst })
}

/// Checks one target against what is known of its recipe.
struct Check<'c, 'a> {
    id: Option<&'c RecipeId>,
    fields: Option<&'c [String]>,
    /// False if `source` was wrong: then nothing is said about its fields.
    known_source: bool,
    errors: &'c mut Collector<'a>,
}

impl Check<'_, '_> {
    fn target(mut self, mut doc: TargetDoc) -> Option<Target> {
        let kind = doc.adapter?.value;
        self.keys_belong(kind, &doc);
        let map = self.map(doc.map.take());
        let protect = self.protect(&doc);
        let adapter = match kind {
            AdapterKind::Rest => self.rest(&doc).map(Adapter::Rest),
            AdapterKind::Sftp => self.sftp(&doc).map(Adapter::Sftp),
            AdapterKind::File => self.file(&doc).map(Adapter::File),
        };
        let circuit = doc.circuit.take().map_or_else(CircuitSettings::default, |circuit| self.circuit(circuit.value));
        let rate = doc.rate_limit.take().and_then(|limit| rate(limit.value));
        let renamed_from = doc.renamed_from.map(|name| name.value);
        let classification = doc.classification.map_or(Classification::External, |found| found.value);
        let residency = doc.residency.map(|country| country.value.0);
        let on_deny = doc.on_deny.map_or(OnDeny::Hold, |on_deny| on_deny.value);
        Some(Target {
            name: doc.name?.value,
            adapter: adapter?,
            map,
            renamed_from,
            circuit,
            rate,
            classification,
            protect,
            residency,
            on_deny,
        })
    }

    fn circuit(&mut self, doc: CircuitDoc) -> CircuitSettings {
        let default = CircuitSettings::default();
        let open_for = doc.open_for.map_or(default.open_for, |time| time.value);
        if let Some(time) = doc.open_for.filter(|time| time.value < SHORTEST_OPEN) {
            self.errors
                .error(time.at, "the shortest `open_for` is 100ms")
                .help("a partner that is down is not asked in a tight loop");
        }
        if let Some(time) = doc.max_open_for.filter(|time| time.value < open_for) {
            let error = self.errors.error(time.at, "`max_open_for` is shorter than `open_for`");
            error.help("the open time doubles from `open_for` up to `max_open_for`");
        }
        CircuitSettings {
            failures: doc.failures.map_or(default.failures, |n| u32::try_from(n.value.0).unwrap_or(u32::MAX)),
            open_for,
            max_open_for: doc.max_open_for.map_or(default.max_open_for, |time| time.value).max(open_for),
        }
    }

    fn keys_belong(&mut self, kind: AdapterKind, doc: &TargetDoc) {
        for (key, kinds) in ONLY_FOR {
            if let Some(at) = doc.keys.find(key).filter(|_| !kinds.contains(&kind)) {
                let owners = one_of(kinds.iter().map(|kind| kind.word()));
                let error = self.errors.error(at, format!("`{key}` is not a key of a `{}` target", kind.word()));
                error.help(format!("it belongs to {owners}"));
            }
        }
        for key in kind.required_keys() {
            if !doc.keys.has(key) {
                self.errors.error(doc.keys.at, format!("missing key `{key}` of a `{}` target", kind.word()));
            }
        }
    }

    fn map(&mut self, map: Field<Pairs<Text>>) -> Vec<(String, String)> {
        let pairs = map.map(|map| map.value.0).unwrap_or_default();
        let renamed: HashSet<&str> = pairs.iter().map(|(field, _)| field.value.as_str()).collect();
        let kept = self.fields.unwrap_or_default().iter().filter(|field| !renamed.contains(field.as_str()));
        let mut taken: HashSet<&str> = kept.map(String::as_str).collect();
        for (field, name) in &pairs {
            if let Some(fields) = self.fields.filter(|fields| !fields.contains(&field.value)) {
                let meant = nearest(&field.value, fields.iter().map(String::as_str));
                let message = format!("{} is not in `source.fields`", quoted(&field.value));
                self.errors.error(field.at, message).help(match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "only fields that are copied can be renamed".to_owned(),
                });
            }
            if !taken.insert(&name.value.0) {
                let message = format!("two fields would be named {}", quoted(&name.value.0));
                self.errors.error(name.at, message).help("give each field a name of its own");
            }
        }
        pairs.into_iter().map(|(field, name)| (field.value, name.value.0)).collect()
    }

    /// Values are protected whole, so only fields can be named: of those that are copied, and of those in the url.
    fn protect(&mut self, doc: &TargetDoc) -> Vec<(String, Protection)> {
        let pairs = doc.protect.as_ref().map_or(&[][..], |protect| &protect.value.0);
        let in_url = doc.url.as_ref().map_or(&[][..], |url| &url.value.fields);
        let known: Vec<&str> = self.fields.unwrap_or_default().iter().chain(in_url).map(String::as_str).collect();
        for (field, _) in pairs.iter().filter(|(field, _)| !known.contains(&field.value.as_str())) {
            let whole = field.value.split('.').next().unwrap_or_default();
            let message = match field.value.contains('.') {
                true => format!("{} is no field: a value is protected as a whole", quoted(&field.value)),
                false if self.fields.is_none() => continue,
                false => format!("{} is not in `source.fields`", quoted(&field.value)),
            };
            let meant = nearest(&field.value, known.iter().copied());
            self.errors.error(field.at, message).help(match meant {
                _ if field.value.contains('.') => format!("name the field: `{whole}`"),
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "only fields that are copied, or stand in the url, can be protected".to_owned(),
            });
        }
        pairs.iter().map(|(field, way)| (field.value.clone(), way.value)).collect()
    }

    fn rest(&mut self, doc: &TargetDoc) -> Option<RestTarget> {
        let batch = self.batch(doc);
        let auth = doc.auth.as_ref().and_then(|auth| auth::rest(auth, self.errors));
        let headers = headers::check(doc.headers.as_ref(), auth.as_ref(), self.errors);
        self.client_cert(doc);
        Some(RestTarget {
            url: doc.url.as_ref()?.value.text.clone(),
            method: doc.method.map_or(Method::Post, |method| method.value),
            auth,
            headers,
            batch,
            timeout: self.timeout(doc),
            concurrency: usize::try_from(doc.concurrency.map_or(CONCURRENCY, |n| n.value.0)).unwrap_or(1),
            idempotency_honoured: doc.idempotency.map(|honoured| honoured.value) == Some(Idempotency::Honoured),
            client_cert: doc.client_cert.as_ref().map(|cert| cert.value.0.clone()),
        })
    }

    fn client_cert(&mut self, doc: &TargetDoc) {
        if let (Some(cert), Some(url)) = (&doc.client_cert, &doc.url)
            && !url.value.text.to_ascii_lowercase().starts_with("https:")
        {
            let error = self.errors.error(cert.at, "`client_cert` is for TLS, and the url is not https");
            error.help("use https, or remove the key");
        }
    }

    fn batch(&mut self, doc: &TargetDoc) -> Batch {
        let (max, format) =
            doc.batch.as_ref().map_or((None, None), |batch| (batch.value.max_events, batch.value.format));
        let batch = Batch {
            max_events: max.map_or(1, |max| usize::try_from(max.value.0).unwrap_or(1)),
            format: format.map_or(BatchFormat::Object, |format| format.value),
        };
        let Some(max) = max.filter(|max| max.value.0 > 1) else { return batch };
        if batch.format == BatchFormat::Object {
            let at = format.map_or(max.at, |format| format.at);
            let error = self.errors.error(at, format!("an `object` holds one event, not {}", max.value.0));
            error.help("use `format: json_array`, `ndjson` or `cloudevents_batch`, or `max_events: 1`");
        }
        if let Some(url) = doc.url.as_ref().filter(|url| !url.value.fields.is_empty()) {
            let message = format!(
                "`{{{}}}` in the url needs one event a request, `batch` has {}",
                url.value.fields[0], max.value.0
            );
            self.errors.error(url.at, message).help("remove the field from the url, or `batch`");
        }
        batch
    }

    fn timeout(&mut self, doc: &TargetDoc) -> Duration {
        let Some(timeout) = doc.timeout else { return TIMEOUT };
        if timeout.value > LONGEST_TIMEOUT {
            self.errors.error(timeout.at, "the longest `timeout` is 10m");
        }
        timeout.value
    }

    fn sftp(&mut self, doc: &TargetDoc) -> Option<SftpTarget> {
        let auth = auth::sftp(doc.auth.as_ref(), self.errors);
        let timeout = self.timeout(doc);
        let file = self.file(doc);
        Some(SftpTarget {
            host: doc.host.as_ref()?.value.0.clone(),
            port: u16::try_from(doc.port.map_or(22, |port| port.value.0)).unwrap_or(22),
            user: doc.user.as_ref().map_or_else(|| "sync".to_owned(), |user| user.value.0.clone()),
            timeout,
            auth,
            file: file?,
        })
    }

    fn file(&mut self, doc: &TargetDoc) -> Option<FileTarget> {
        self.columns(doc);
        let write = doc.write.map_or(WriteMode::Append, |write| write.value);
        self.path(doc, write);
        Some(FileTarget {
            path: doc.path.as_ref()?.value.as_str().to_owned(),
            format: doc.format?.value,
            header: doc.header.is_some_and(|header| header.value),
            write,
            on_doubt: doc.on_doubt.map_or(OnDoubt::Hold, |on_doubt| on_doubt.value),
            line_end: doc.line_end.map_or(LineEnd::Lf, |line_end| line_end.value),
        })
    }

    fn columns(&mut self, doc: &TargetDoc) {
        match doc.format {
            Some(format) if format.value == FileFormat::Csv && self.fields.is_none() && self.known_source => {
                let error = self.errors.error(format.at, "csv needs `fields` under `source`: they are its columns");
                error.help("name the fields in the order of the columns, or use `format: jsonl`");
            }
            Some(format) if format.value == FileFormat::JsonLines => {
                if let Some(header) = doc.header.filter(|header| header.value) {
                    self.errors.error(header.at, "jsonl has no header").help("remove the key, or use `format: csv`");
                }
            }
            _ => {}
        }
    }

    fn path(&mut self, doc: &TargetDoc, write: WriteMode) {
        let Some(path) = &doc.path else { return };
        if write == WriteMode::FilePerBatch && !path.value.has_batch() {
            let error = self.errors.error(path.at, "`write: file_per_batch` needs `{batch}` in the path");
            error.help("such as /inbox/{batch}.csv: without it two batches would have one name");
        }
        if let (Some(id), Some(name)) = (self.id, &doc.name)
            && let Some(words) = path.value.too_long(Owner { recipe: id.as_str(), target: name.value.as_str() })
        {
            self.errors.error(path.at, words).help("use a shorter path, recipe id or target name");
        }
    }
}
