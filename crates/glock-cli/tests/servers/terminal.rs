//! On a terminal, as on the embedded store.

use crate::{server::Server, support::terminal::on_a_terminal};

on_a_terminal!(Server::given().place(), "needs a server: run `cargo xtask integration cli`");
