//! The client: where connections come from, how scripts are sent over them, what clones share.

mod credentials;
mod script;
mod slots;
mod source;
mod transport;

mod shared_connection;

mod cluster;
mod route;

mod requests;

mod nodes;

mod state;

pub use self::credentials::Credentials;
pub(crate) use self::{
    credentials::provider,
    nodes::Node,
    requests::{Reply, Request, Target},
    route::Route,
    script::{Script, ScriptCall},
    source::Server,
    state::{Client, Origin, Settings},
};
