//! What every file host does, whatever is behind it.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use hms_actors::failure::FailureKind;
use hms_actors::id::{RecipeId, TargetKey, TargetName, Timestamp};
use hms_actors::ports::{FileHost, FilePartner, Synced, WriteTo};
use hms_actors::settings::{LineEnd, OnDoubt, WriteMode};
use hms_sync::formats::Shape;
use hms_sync::recipe::model::{FileFormat, FileTarget, From, Source};

/// A partner and the folder in which its files are, as this machine sees it.
pub struct Site {
    pub partner: Box<dyn FilePartner>,
    pub folder: PathBuf,
    /// Whatever must live as long.
    pub _keep: Box<dyn std::any::Any>,
}

impl Site {
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    pub async fn connect(&self) -> Box<dyn FileHost> {
        let place = self.partner.place(Timestamp(0), (0, 0)).unwrap();
        self.partner.connect(&place).await.unwrap()
    }
}

/// A test for each check, on what `$site` makes.
macro_rules! check_contract {
    ($site:expr; $($check:ident)*) => {
        $(#[tokio::test]
        async fn $check() {
            crate::contract::$check($site).await;
        })*
    };
    ($site:expr) => {
        crate::contract::check_contract! { $site;
            a_fresh_file_is_created_and_read_back
            rows_go_to_their_offset
            the_same_write_again_changes_nothing
            a_fresh_write_empties_what_was_there
            nothing_has_no_length_and_nothing_to_read
            a_rename_moves_a_file_and_never_overwrites
            an_existing_file_that_is_gone_is_not_made_anew
            a_missing_directory_is_for_somebody_to_mend
            links_are_followed_and_a_directory_is_not_a_file
            eight_mebibytes_arrive_byte_for_byte
        }
    };
}
pub(crate) use check_contract;

pub async fn a_fresh_file_is_created_and_read_back(site: Site) {
    let mut host = site.connect().await;
    let path = site.path("new.csv");
    assert_eq!(host.write(&path, 0, b"a,1\n", WriteTo::Fresh).await, Ok(Synced(true)));
    assert_eq!(host.length(&path).await, Ok(Some(4)));
    assert_eq!(host.read(&path, 0, 100).await, Ok(b"a,1\n".to_vec()));
    assert_eq!(std::fs::read(&path).unwrap(), b"a,1\n");
}

pub async fn rows_go_to_their_offset(site: Site) {
    let mut host = site.connect().await;
    let path = site.path("rows.csv");
    std::fs::write(&path, "a,1\nb,2\n").unwrap();
    host.write(&path, 8, b"c,3\n", WriteTo::Existing).await.unwrap();
    host.write(&path, 12, b"d,4\n", WriteTo::Existing).await.unwrap();
    host.write(&path, 4, b"B", WriteTo::Existing).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a,1\nB,2\nc,3\nd,4\n");
    assert_eq!(host.read(&path, 8, 4).await, Ok(b"c,3\n".to_vec()));
}

pub async fn the_same_write_again_changes_nothing(site: Site) {
    let mut host = site.connect().await;
    let path = site.path("again.csv");
    std::fs::write(&path, "a,1\n").unwrap();
    for _ in 0..3 {
        host.write(&path, 4, b"b,2\nc,3\n", WriteTo::Existing).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a,1\nb,2\nc,3\n");
    }
}

pub async fn a_fresh_write_empties_what_was_there(site: Site) {
    let mut host = site.connect().await;
    let path = site.path("left-over.tmp");
    std::fs::write(&path, "something longer than what follows").unwrap();
    host.write(&path, 0, b"a,1\n", WriteTo::Fresh).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a,1\n");
}

pub async fn nothing_has_no_length_and_nothing_to_read(site: Site) {
    let mut host = site.connect().await;
    assert_eq!(host.length(&site.path("missing.csv")).await, Ok(None));
    assert_eq!(host.length(&site.path("no-folder/missing.csv")).await, Ok(None));
    let short = site.path("short");
    std::fs::write(&short, "abc").unwrap();
    assert_eq!(host.read(&short, 1, 10).await, Ok(b"bc".to_vec()));
    assert_eq!(host.read(&short, 10, 10).await, Ok(Vec::new()));
    assert!(host.read(&site.path("missing.csv"), 0, 1).await.is_err());
}

pub async fn a_rename_moves_a_file_and_never_overwrites(site: Site) {
    let mut host = site.connect().await;
    let (from, to) = (site.path("x.tmp"), site.path("x.csv"));
    std::fs::write(&from, "ours").unwrap();
    host.rename(&from, &to).await.unwrap();
    assert_eq!((host.length(&from).await, host.length(&to).await), (Ok(None), Ok(Some(4))));

    std::fs::write(&from, "second").unwrap();
    let failure = host.rename(&from, &to).await.unwrap_err();
    assert!(failure.definite && failure.message.contains("exists already"), "{failure:?}");
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "ours");
    assert_eq!(std::fs::read_to_string(&from).unwrap(), "second");
}

pub async fn an_existing_file_that_is_gone_is_not_made_anew(site: Site) {
    let mut host = site.connect().await;
    let path = site.path("gone.csv");
    let failure = host.write(&path, 0, b"a,1\n", WriteTo::Existing).await.unwrap_err();
    assert_eq!((failure.kind, failure.definite), (FailureKind::Transient, true));
    assert!(failure.message.contains("is gone"), "{failure}");
    assert!(!std::fs::exists(&path).unwrap());
}

pub async fn a_missing_directory_is_for_somebody_to_mend(site: Site) {
    let mut host = site.connect().await;
    let failure = host.write(&site.path("no-folder/x.tmp"), 0, b"a", WriteTo::Fresh).await.unwrap_err();
    assert_eq!((failure.kind, failure.definite), (FailureKind::Configuration, true));
    assert!(failure.message.contains("no such directory") && failure.message.contains("no-folder"), "{failure}");
}

pub async fn links_are_followed_and_a_directory_is_not_a_file(site: Site) {
    let mut host = site.connect().await;
    std::fs::write(site.path("real"), "abc").unwrap();
    symlink(site.path("real"), site.path("link")).unwrap();
    symlink(site.path("nowhere"), site.path("dangling")).unwrap();
    std::fs::create_dir(site.path("folder")).unwrap();
    assert_eq!(host.length(&site.path("link")).await, Ok(Some(3)));
    assert_eq!(host.length(&site.path("dangling")).await, Ok(None));
    let failure = host.length(&site.path("folder")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Configuration, "{failure}");
}

pub async fn eight_mebibytes_arrive_byte_for_byte(site: Site) {
    let mut host = site.connect().await;
    let path = site.path("large");
    let bytes = noise(8 * 1024 * 1024 + 7);
    host.write(&path, 0, &bytes, WriteTo::Fresh).await.unwrap();
    host.write(&path, bytes.len() as u64, &bytes, WriteTo::Existing).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == [bytes.as_slice(), &bytes].concat(), "the file differs");
    assert!(host.read(&path, bytes.len() as u64 + 3, 9_000_000).await.unwrap() == bytes[3..], "reading differs");
}

/// Bytes without a pattern, always the same.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub fn key(target: &str) -> TargetKey {
    TargetKey { recipe: RecipeId::parse("grants.sync").unwrap(), target: TargetName::parse(target).unwrap() }
}

pub fn shape() -> Shape {
    let feed = "grants".to_owned().try_into().unwrap();
    Shape::new(
        &Source { feed, fields: None, key: None, from: From::Now, required: Vec::new(), labels: Vec::new() },
        &[],
    )
}

pub fn file_target() -> FileTarget {
    FileTarget {
        path: "/inbox/grants.csv".into(),
        format: FileFormat::Csv,
        header: false,
        write: WriteMode::Append,
        on_doubt: OnDoubt::Hold,
        line_end: LineEnd::Lf,
    }
}
