//! Where a template writes: so many bytes and no more, wiped wherever they were.

use std::io;

use strongroom_core::SecretBytes;
use zeroize::Zeroizing;

const FIRST_ROOM: usize = 1024;

/// A buffer that grows by moving to a larger one, and wipes the one that it leaves.
pub(super) struct Bounded {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl Bounded {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Zeroizing::new(Vec::with_capacity(FIRST_ROOM)),
            limit,
        }
    }

    /// What was written.
    pub(super) fn into_bytes(mut self) -> SecretBytes {
        SecretBytes::new(std::mem::take(&mut self.bytes))
    }
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len() + more.len();
        if length > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if length > self.bytes.capacity() {
            let room = length.next_power_of_two();
            let mut larger = Zeroizing::new(Vec::with_capacity(room));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_fits_is_kept_whatever_it_came_in() {
        let mut output = Bounded::new(5000);
        let text: Vec<u8> = (0..5000).map(|at| at as u8).collect();
        for piece in text.chunks(700) {
            output.write_all(piece).expect("fits");
        }
        assert!(output.write_all(b"x").is_err());
        assert_eq!(output.into_bytes().expose(), text);
    }
}
