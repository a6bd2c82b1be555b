//! Stands in for protoc where a build script asks for it: as much of its command line as prost uses.

use std::{env, error::Error, ffi::OsString, fs, io, path::PathBuf};

/// What prost-build asks protoc for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    /// Where imported files are looked for.
    includes: Vec<PathBuf>,
    files: Vec<PathBuf>,
    /// Where the set of descriptors goes.
    output: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let request = parse(env::args_os().skip(1))?;
    let mut compiler = protox::Compiler::new(&request.includes)?;
    compiler.include_imports(true).include_source_info(true).open_files(&request.files)?;
    fs::write(&request.output, compiler.encode_file_descriptor_set())?;
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> io::Result<Request> {
    let mut request = Request::default();
    let value = |arguments: &mut dyn Iterator<Item = OsString>| {
        arguments.next().map(PathBuf::from).ok_or_else(|| unknown("an option without its value"))
    };
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("-I") => request.includes.push(value(&mut arguments)?),
            Some("-o") => request.output = value(&mut arguments)?,
            // Always done.
            Some("--include_imports" | "--include_source_info") => {}
            Some(option) if option.starts_with('-') => return Err(unknown(option)),
            _ => request.files.push(argument.into()),
        }
    }
    Ok(request)
}

fn unknown(what: &str) -> io::Error {
    let text = format!("{what} is not known here: set PROTOC to a protoc of your own");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> io::Result<Request> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn what_prost_asks_for_is_understood() {
        let line = "--include_imports --include_source_info -o out -I a -I b a/x.proto b/y.proto";
        let request = parse_words(line).unwrap();
        assert_eq!(request.includes, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(request.files, [PathBuf::from("a/x.proto"), PathBuf::from("b/y.proto")]);
        assert_eq!(request.output, PathBuf::from("out"));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for line in ["--rust_out=x a.proto", "a.proto -o"] {
            assert!(parse_words(line).unwrap_err().to_string().contains("PROTOC"), "{line}");
        }
    }
}
