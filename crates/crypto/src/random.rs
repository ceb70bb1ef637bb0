//! Random bytes from AWS-LC's DRBG.

/// Fills with random bytes. Without a working generator the process ends: there is nothing safe to go on with.
pub fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("AWS-LC ends the process itself when it has no entropy");
}

/// Gives random bytes that are not secret: ids, salts, nonces. Keys are filled in place instead.
pub fn public_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(public_bytes::<16>(), public_bytes::<16>());
    }
}
