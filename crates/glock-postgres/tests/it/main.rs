//! What only this store can get wrong, against a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a helper that cannot do its part is a failed test")]

mod database;

mod connections;
mod contention;
mod limits;
mod notify;
mod races;
mod schema;
mod secrets;
mod telemetry;
mod tokens;
