//! The command line as its users see it: text, JSON and exit codes, against a key service of the test's own behind TLS.
//! What the real key service answers is for the end-to-end tests.

mod admin_certificate;
mod api;
mod audit;
mod clock;
mod common;
mod connection;
mod enrol;
mod fake;
mod import;
mod pki;
mod reference;
mod ring;
mod rotate;
mod rotate_object;
mod secret;
mod status;
mod status_cluster;
mod usage;
mod version;
mod why;
