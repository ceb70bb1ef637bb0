//! The command line as its users see it: text, JSON and exit codes, against a key service of the test's own behind TLS.
//! What the real key service answers is for the end-to-end tests.

mod audit;
mod clock;
mod common;
mod connection;
mod enrol;
mod fake;
mod pki;
mod reference;
mod rotate;
mod secret;
mod status;
mod usage;
mod version;
