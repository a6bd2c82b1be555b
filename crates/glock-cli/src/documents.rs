//! `completions` and `man`.

use std::{fs, io, path::Path};

use clap::Command;

use crate::{
    args::{CompletionsArgs, ManArgs},
    exit::{Exit, Failure},
    output::Output,
};

pub(crate) fn completions(
    args: &CompletionsArgs,
    command: &mut Command,
    output: &Output,
) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, command, "glock", &mut text);
    output.raw(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: &ManArgs, mut command: Command, output: &Output) -> Result<Exit, Failure> {
    command.build();
    let Some(directory) = &args.directory else {
        output
            .raw(&String::from_utf8_lossy(&page(&command).map_err(unwritable(Path::new("-")))?))?;
        return Ok(Exit::Done);
    };
    let visible =
        command.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "help");
    for command in std::iter::once(&command).chain(visible) {
        let name = command.get_display_name().unwrap_or("glock").replace(' ', "-");
        let path = directory.join(format!("{name}.1"));
        let written = page(command).and_then(|page| fs::write(&path, page));
        written.map_err(unwritable(&path))?;
    }
    Ok(Exit::Done)
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |err| Failure::new(Exit::File, format!("cannot write {}: {err}", path.display()))
}
