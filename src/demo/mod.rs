//! demo

mod sftp_fs;
mod ssh_partner;

use clap::Args;
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave everything running until Ctrl-C
    #[arg(long)]
    keep: bool,
}
impl Demo {
    pub fn run(self) -> Result<(), crate::cli::Error> {
        let _ = self.keep;
        Ok(())
    }
}
