//! What custom resources get from the key service, over the real programs: whose everything is, which process may change
//! it, and that the operator opens nothing. Tokens come from signers of the stories' own; there is no cluster.

mod fence;
mod held;
mod ownership;
mod recreated;
mod rights;
mod support;
mod watch;
