//! `zonal completions`: what a shell needs to complete this command.

use std::io::Write;

use anyhow::Result;
use clap::{Args, Command};
use clap_complete::Shell;

/// For which shell.
#[derive(Debug, Args)]
#[command(after_help = "\
A script is for the shell to read, so there is no --json.

bash: zonal completions bash > ~/.local/share/bash-completion/completions/zonal
zsh:  zonal completions zsh > a folder of $fpath, as _zonal
fish: zonal completions fish > ~/.config/fish/completions/zonal.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
pub(crate) fn print(args: &CompletionsArgs, cli: &mut Command, out: &mut impl Write) -> Result<()> {
    // A reader that has gone would be a panic inside the generator.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, cli, "zonal", &mut script);
    Ok(out.write_all(&script)?)
}
