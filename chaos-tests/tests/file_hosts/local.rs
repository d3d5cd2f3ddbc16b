//! The local disk under the contract.

use hms_actors::failure::FailureKind;
use hms_actors::ports::WriteTo;
use hms_sync::adapters::file::{Busy, LocalPartner};

use crate::contract::{Site, check_contract, file_target, key, shape};

fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grants.csv").display().to_string();
    let path_of = Box::new(move |_, _| path.clone());
    let partner = LocalPartner::new(key("local_drop"), &file_target(), shape(), path_of, Busy::default());
    Site { partner: Box::new(partner), folder: folder.path().into(), _keep: Box::new(folder) }
}

check_contract!(site());

#[tokio::test]
async fn a_path_without_permission_is_for_somebody_to_mend() {
    let mut host = site().connect().await;
    // Not even root may write it.
    let failure = host.write("/proc/sys/kernel/ostype", 0, b"a", WriteTo::Existing).await.unwrap_err();
    assert_eq!((failure.kind, failure.definite), (FailureKind::Configuration, true), "{failure}");
}
