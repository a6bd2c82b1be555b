//! The command `glock`.

use std::process::ExitCode;

fn main() -> ExitCode {
    glock_cli::main()
}
