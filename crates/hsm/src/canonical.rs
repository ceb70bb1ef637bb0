//! The one byte string of a statement that is signed or authenticated: its domain, then each field after its length.

/// Collects the fields of one statement.
pub(crate) struct Canonical(Vec<u8>);

impl Canonical {
    /// Begins a statement; no two kinds of statement share a domain.
    pub(crate) fn new(domain: &str) -> Self {
        Self(Vec::with_capacity(256)).field(domain.as_bytes())
    }

    /// Adds a field after its length (u32, big endian).
    pub(crate) fn field(mut self, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).expect("statements are far shorter than 4 GiB");
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds how many items follow, so that no item can be taken for what comes after the list.
    pub(crate) fn count(self, items: usize) -> Self {
        let items = u32::try_from(items).expect("statements list few things");
        self.field(&items.to_be_bytes())
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}
