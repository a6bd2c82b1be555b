//! On a terminal: the waiting line, Ctrl-C, Ctrl-Z, a loss and the screen.

use crate::support::{Place, terminal::on_a_terminal};

on_a_terminal!(Place::new());
