//! Primitives over aws-lc-rs, and locked memory.

