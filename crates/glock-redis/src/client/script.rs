//! `Script`: a Lua script, and the commands that run it.

use std::sync::OnceLock;

use redis::Cmd;

/// A Lua script.
pub(crate) struct Script {
    text: &'static str,
    hash: OnceLock<String>,
}

/// A script with its keys and arguments.
pub(crate) struct ScriptCall<'a> {
    pub(crate) script: &'a Script,
    pub(crate) keys: &'a [&'a str],
    pub(crate) args: &'a [&'a str],
}

impl Script {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, hash: OnceLock::new() }
    }

    /// The name by which a server that has the script knows it.
    fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.text).get_hash().into())
    }
}

impl ScriptCall<'_> {
    /// For a server that has the script.
    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", self.script.hash())
    }

    /// For any server. It keeps the script.
    pub(crate) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let parts = || self.keys.iter().chain(self.args);
        let bytes = name.len() + script.len() + 8 + parts().map(|part| part.len()).sum::<usize>();
        let mut cmd = Cmd::with_capacity(3 + parts().count(), bytes);
        cmd.arg(name).arg(script).arg(self.keys.len());
        for part in parts() {
            cmd.arg(*part);
        }
        cmd
    }
}
