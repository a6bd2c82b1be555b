//! `Script`: a Lua script, and the commands that run it.

use std::sync::OnceLock;

use redis::Cmd;

/// A Lua script.
pub(crate) struct Script {
    source: &'static str,
    compiled: OnceLock<Compiled>,
}

/// What is sent of a script.
struct Compiled {
    text: String,
    /// The name by which a server that has the script knows it.
    hash: String,
}

/// What stands in a script for the functions of the queue.
const INCLUDE: &str = "-- include queue.lua\n";
const QUEUE: &str = include_str!("../../scripts/queue.lua");

/// A script with its keys and arguments.
pub(crate) struct ScriptCall<'a> {
    pub(crate) script: &'a Script,
    pub(crate) keys: &'a [&'a str],
    pub(crate) args: &'a [&'a str],
}

impl Script {
    pub(crate) const fn new(source: &'static str) -> Self {
        Self { source, compiled: OnceLock::new() }
    }

    fn compiled(&self) -> &Compiled {
        self.compiled.get_or_init(|| {
            let text = self.source.replacen(INCLUDE, QUEUE, 1);
            let hash = redis::Script::new(&text).get_hash().into();
            Compiled { text, hash }
        })
    }
}

impl ScriptCall<'_> {
    /// For a server that has the script.
    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.compiled().hash)
    }

    /// For any server. It keeps the script.
    pub(crate) fn by_text(&self) -> Cmd {
        self.command("EVAL", &self.script.compiled().text)
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
