//! The client: where connections come from, how scripts are sent over them, what clones share.

mod script;
mod source;
mod transport;

mod shared_connection;

mod state;

pub(crate) use self::{
    script::{Script, ScriptCall},
    shared_connection::{Reply, SharedConnection},
    source::Source,
    state::Client,
};
