//! The stored formats, byte for byte: the frozen vectors read by this crate, and what this crate writes read by an
//! independent decoder in Python.

mod decoder;
mod frozen;
mod vector;
