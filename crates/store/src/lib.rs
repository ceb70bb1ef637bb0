//! The store port, its memory model and the SQLite engine.
#![forbid(unsafe_code)]
