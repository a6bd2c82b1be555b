//! The test binaries, all built at once, and a run of one of them.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use cargo_metadata::{Artifact, Message, Package, TargetKind};
use duct::{Expression, cmd};

use crate::{
    interrupt,
    launcher::Source,
    outcome::Outcome,
    shell::{cargo, say},
    stores::Store,
    workspace,
};

/// A test binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suite {
    pub(crate) package: String,
    /// `lib`, or the name of the test.
    pub(crate) name: String,
    path: PathBuf,
    dir: PathBuf,
}

/// What a build has made.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) suites: Vec<Suite>,
    /// The program `glock-servers`.
    pub(crate) launcher: PathBuf,
}

/// Tests that take more than 20 seconds, marked `#[ignore = "long: .."]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Long {
    Run,
    LeftOut,
}

/// Which tests of a binary run, and how.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// Parts of names; none for all tests.
    pub(crate) only: Vec<String>,
    pub(crate) skip: Vec<String>,
    /// Whether the tests that want a server run too.
    pub(crate) ignored: bool,
    pub(crate) long: Long,
    pub(crate) threads: usize,
}

const LAUNCHER: &str = "glock-servers";

/// Builds all tests at once, so that nothing is compiled twice. Clippy looks after the examples.
pub(crate) fn build(stores: &[Store], source: Source) -> Result<Built> {
    build_by(&["test", "--no-run", "--lib", "--bins", "--tests"], stores, source)
}

/// Builds the program that starts servers, and nothing else.
pub(crate) fn build_launcher(stores: &[Store], source: Source) -> Result<PathBuf> {
    Ok(build_by(&["build", "--quiet", "--bin", LAUNCHER], stores, source)?.launcher)
}

fn build_by(what: &[&str], stores: &[Store], source: Source) -> Result<Built> {
    let scope = scope(stores, source)?;
    let words = what.iter().copied().chain(scope.iter().map(String::as_str));
    say("build", &format!("cargo {}", words.clone().collect::<Vec<_>>().join(" ")));
    let command = cargo(words.chain(["--message-format=json-render-diagnostics"]));
    let (output, _group) = interrupt::read(&command)?;
    let (mut suites, mut launcher) = (Vec::new(), None);
    for message in Message::parse_stream(BufReader::new(output)) {
        // A build that failed is an error of the last read.
        let Message::CompilerArtifact(artifact) = message.context("the build failed")? else {
            continue;
        };
        let is_launcher = artifact.target.name == LAUNCHER && !artifact.profile.test;
        match artifact.executable.clone() {
            Some(path) if is_launcher => launcher = Some(keep(path.as_std_path(), source)?),
            Some(path) if artifact.profile.test => suites.extend(suite(&artifact, path.into())),
            _ => {}
        }
    }
    let launcher = launcher.context("cargo has built no glock-servers")?;
    Ok(Built { suites, launcher })
}

/// The words for cargo that choose packages and features, always the same ones.
pub(crate) fn scope(stores: &[Store], source: Source) -> Result<[String; 3]> {
    let mut features = Vec::new();
    for store in stores.iter().map(Store::package) {
        let mut packages = workspace::packages().iter();
        let package = packages.find(|package| *package.name == store);
        let own = package.into_iter().flat_map(|package| package.features.keys());
        features.extend(own.map(|feature| format!("{store}/{feature}")));
    }
    if source == Source::Containers {
        features.push(format!("{}/containers", harness()?));
    }
    Ok(["--workspace".to_owned(), "--features".to_owned(), features.join(",")])
}

/// The package with the program `glock-servers`, which also tests what the suites count on of servers.
pub(crate) fn harness() -> Result<&'static str> {
    let has = |package: &&Package| package.targets.iter().any(|target| target.name == LAUNCHER);
    let package = workspace::packages().iter().find(has);
    Ok(package.context("no package has the program glock-servers")?.name.as_str())
}

fn suite(artifact: &Artifact, path: PathBuf) -> Option<Suite> {
    let owner = |package: &&Package| package.id == artifact.package_id;
    let package = workspace::packages().iter().find(owner)?;
    let is_lib = artifact.target.kind.contains(&TargetKind::Lib);
    let name = if is_lib { "lib".to_owned() } else { artifact.target.name.clone() };
    let dir = package.manifest_path.parent()?.to_owned().into();
    Some(Suite { package: package.name.to_string(), name, path, dir })
}

/// Keeps the launcher aside: a later build may replace it by another kind.
fn keep(fresh: &Path, source: Source) -> Result<PathBuf> {
    let kept = workspace::target().join(match source {
        Source::Native => "xtask/glock-servers-native",
        Source::Containers => "xtask/glock-servers-containers",
    });
    let new = kept.with_extension(std::process::id().to_string());
    fs::create_dir_all(workspace::target().join("xtask"))?;
    // By a rename, because one that runs cannot be written to.
    fs::copy(fresh, &new)
        .and_then(|_| fs::rename(&new, &kept))
        .context("cannot copy the launcher")?;
    Ok(kept)
}

impl Suite {
    pub(crate) fn is(&self, package: &str, name: &str) -> bool {
        self.package == package && self.name == name
    }

    /// Runs it, its output at the end of the file `log`; `env` adds what the tests are told.
    pub(crate) fn run(
        &self,
        selection: &Selection,
        env: impl Fn(Expression) -> Expression,
        log: &Path,
    ) -> Result<Outcome> {
        let mut arguments = selection.only.clone();
        arguments.extend(["--test-threads".to_owned(), selection.threads.to_string()]);
        for name in &selection.skip {
            arguments.extend(["--skip".to_owned(), name.clone()]);
        }
        let with = |arguments: &[String]| {
            let own = cmd(&self.path, arguments).dir(&self.dir);
            env(own.env("CARGO_MANIFEST_DIR", &self.dir))
        };
        // Those that need no server, and a line with the reason for each that is ignored.
        let (mut outcome, said) = run_logged(&with(&arguments), log)?;
        if !selection.ignored {
            return Ok(outcome);
        }
        let (wanted, left_out): (Vec<_>, Vec<_>) = ignored(&said)
            .partition(|(_, why)| selection.long == Long::Run || !why.starts_with("long:"));
        if wanted.is_empty() {
            return Ok(outcome);
        }
        arguments.push("--ignored".to_owned());
        for (name, _) in left_out {
            arguments.extend(["--skip".to_owned(), name.to_owned()]);
        }
        outcome.add(run_logged(&with(&arguments), log)?.0);
        Ok(outcome)
    }
}

/// Runs a program with its output at the end of the file, and gives what it came to and said.
pub(crate) fn run_logged(command: &Expression, log: &Path) -> Result<(Outcome, String)> {
    let file = File::options().create(true).append(true).open(log)?;
    let before = usize::try_from(file.metadata()?.len())?;
    let command = command.stdin_null().stdout_file(file).stderr_to_stdout().unchecked();
    let (running, _group) = interrupt::start(&command)?;
    let status = running.wait()?.status;
    let said = fs::read(log)?;
    let said = String::from_utf8_lossy(said.get(before..).unwrap_or_default()).into_owned();
    let mut outcome = Outcome::of(&said);
    outcome.ended_well = status.success();
    Ok((outcome, said))
}

/// Name and reason of each test that was left out.
fn ignored(said: &str) -> impl Iterator<Item = (&str, &str)> {
    said.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
        Some((name, rest.trim_start_matches(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_ignored_has_a_name_and_a_reason() {
        let said = "test a::b ... ok\ntest c::d ... ignored, long: 30 s\ntest e ... ignored\n";
        let found: Vec<_> = ignored(said).collect();
        assert_eq!(found, [("c::d", "long: 30 s"), ("e", "")]);
    }

    #[test]
    fn output_that_is_no_text_is_counted_to_its_end() {
        let log = workspace::target().join("xtask-output-test");
        let script = r"printf 'a \377 b\n'; echo 'test result: ok. 3 passed; 0 failed; 0 ignored'";
        let (outcome, _) = run_logged(&cmd!("sh", "-ec", script), &log).unwrap();
        fs::remove_file(&log).unwrap();
        assert_eq!((outcome.passed, outcome.ended_well), (3, true));
    }

    #[test]
    fn a_store_is_built_with_all_its_features() {
        let stores = crate::stores::load().unwrap();
        let [_, _, native] = scope(&stores, Source::Native).unwrap();
        assert!(
            native.contains("glock-redis/sentinel") && !native.contains("containers"),
            "{native}"
        );
        let [_, _, all] = scope(&stores, Source::Containers).unwrap();
        assert!(all.starts_with(&native) && all.ends_with("/containers"), "{all}");
    }
}
