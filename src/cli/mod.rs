//! The command line: what can be said, and which exit code comes back. A file per group of commands.
//! Apart from `serve` and `demo`, every command is an HTTP client of the admin endpoint and knows nothing of the node's inside.

mod ages;
mod audit;
mod check;
mod circuit;
mod client;
mod dlq;
mod envelope;
mod error;
mod hitl;
mod lines;
mod privacy;
mod publish;
mod render;
#[cfg(test)]
mod scripted;
mod serve;
mod sync;
mod table;
mod token;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use error::Error;

/// The life of the process: parse, do, say how it ended.
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(wrong) => {
            // Help and version are "errors" of clap's too, with exit code 0; a closed terminal leaves nobody to tell.
            let _ = wrong.print();
            return ExitCode::from(u8::try_from(wrong.exit_code()).unwrap_or(2));
        }
    };
    // An error means that a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match &error {
                // Findings are laid out as a compiler's are.
                Error::Invalid(findings) => eprintln!("{findings}"),
                other => eprintln!("hms: {other}"),
            }
            error.exit_code()
        }
    }
}

/// The one-minute courier: delivers change feeds to partners over REST, SFTP and files, once, with proof.
#[derive(Debug, Parser)]
#[command(name = "hms", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  hms demo                                   the whole story on this machine, in under a minute
  hms serve --insecure-loopback              a node on 127.0.0.1:8700, its data in ./hms-data
  hms sync apply recipes/bridge_grant.yaml   check a recipe and start it
  hms ppe event publish grants.updated --data '{\"grant_id\":\"GR-42\"}'

Exit codes: 0 done, 1 the node refused or the work failed, 2 wrong usage or invalid recipe,
3 the node can't be reached.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(crate::demo::Demo),
    Sync(sync::Sync),
    Ppe(publish::Ppe),
    Circuit(circuit::Circuit),
    Hitl(hitl::Hitl),
    Dlq(dlq::Dlq),
    Audit(audit::Audit),
    Token(token::Token),
    Privacy(privacy::Privacy),
}

impl Command {
    fn run(self) -> Result<(), Error> {
        match self {
            Self::Serve(serve) => serve.run(),
            Self::Demo(demo) => demo.run(),
            Self::Sync(sync) => block_on(sync.run()),
            Self::Ppe(ppe) => block_on(ppe.run()),
            Self::Circuit(circuit) => block_on(circuit.run()),
            Self::Hitl(hitl) => block_on(hitl.run()),
            Self::Dlq(dlq) => block_on(dlq.run()),
            Self::Audit(audit) => block_on(audit.run()),
            Self::Token(token) => block_on(token.run()),
            Self::Privacy(privacy) => block_on(privacy.run()),
        }
    }
}

/// A client needs one thread and no actors.
fn block_on(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("no runtime: {error}")))?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_of_commands_is_consistent() {
        Cli::command().debug_assert();
    }
}
