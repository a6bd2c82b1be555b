//! The benchmarks of each store, against its newest server, which waits for the disk as where somebody
//! depends on it.

use std::env;

use crate::{
    Result,
    launcher::{Disk, Launcher},
    options::Options,
    shell::{self, cargo, complain, say},
    stores::{Server, Store},
    workspace,
};

/// Goes on with the other stores after a failure.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut faults = 0;
    for (store, servers) in &options.chosen {
        if let Err(error) = bench(store, servers, options) {
            complain(&error);
            faults += 1;
        }
    }
    if faults == 0 { Ok(()) } else { Err(format!("{faults} benchmarks failed")) }
}

fn bench(store: &Store, servers: &[&'static Server], options: &Options) -> Result<()> {
    let mut command = cargo();
    command.args(["bench", "--package", &format!("glock-{}", store.name)]);
    command.current_dir(workspace::root());
    if env::var_os(store.variable).is_some() {
        say("given", &format!("{} is set: no server is started", store.variable));
        return shell::run(&mut command);
    }
    let server = servers.first().ok_or("no server was chosen")?;
    let launcher = Launcher::start(&[server], options.runtime, Disk::Awaited)?;
    let running = launcher.servers.first().ok_or("the launcher started no server")?;
    say("running", &format!("{} {} ({})", server.title, running.version, running.runtime));
    launcher.tell(server, &mut command);
    shell::run(command.env(store.variable, &running.url))
}
