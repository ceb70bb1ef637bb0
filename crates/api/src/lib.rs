//! Generated protobuf, clients and status codes.
#![forbid(unsafe_code)]
