//! What service accounts do on the port for workloads with their own tokens, beside volumes: the operator has keys and secrets
//! rotated, pods use keys. Tokens come from signers of the stories' own, time from a clock that they turn.

mod keys;
mod requests;
mod schedules;
mod slots;
mod support;
