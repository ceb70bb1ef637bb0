//! Lets kubelet's registration be understood: it dials a path without naming an authority, so that grpc-go sends the path
//! itself (`%2Fvar%2Flib%2Fkubelet…`), which is none by RFC 3986, and our HTTP/2 resets the stream. On the socket of CSI
//! kubelet says `localhost` (kubernetes/kubernetes#112597); here the same is put in its place.
//!
//! Nothing is decompressed: fields are skipped by their lengths, and one value is exchanged. Both sides number what they
//! remember alike, whatever its text.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
/// What a peer may send that was not told of another limit.
const FRAME_BYTES_MAX: usize = 16 * 1024;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;
/// `:authority` in the table of fields that both sides know from the start.
const AUTHORITY: usize = 1;
const LOCALHOST: &[u8] = b"\x09localhost";

/// A connection whose client names `localhost`.
#[derive(Debug)]
pub(super) struct Localhost<S> {
    stream: S,
    /// What came and is not a whole frame yet.
    raw: Vec<u8>,
    /// What can be read.
    ready: Vec<u8>,
    is_greeted: bool,
}

impl<S> Localhost<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            raw: Vec::new(),
            ready: Vec::new(),
            is_greeted: false,
        }
    }

    /// Passes on what is whole.
    fn advance(&mut self) -> io::Result<()> {
        if !self.is_greeted {
            if self.raw.len() < PREFACE_BYTES {
                return Ok(());
            }
            self.ready.extend(self.raw.drain(..PREFACE_BYTES));
            self.is_greeted = true;
        }
        while let Some(header) = self.raw.first_chunk::<FRAME_HEADER_BYTES>() {
            let length =
                usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            if length > FRAME_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let whole = FRAME_HEADER_BYTES + length;
            if self.raw.len() < whole {
                break;
            }
            let frame: Vec<u8> = self.raw.drain(..whole).collect();
            self.ready.extend(rewrite_frame(&frame).unwrap_or(frame));
        }
        Ok(())
    }
}

/// Returns another frame in the place of one that names an authority; none where there is nothing to change.
fn rewrite_frame(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = frame.split_at_checked(FRAME_HEADER_BYTES)?;
    let (kind, flags) = (header[3], header[4]);
    if kind != HEADERS || flags & END_HEADERS == 0 || flags & PADDED != 0 {
        return None;
    }
    let before = if flags & PRIORITY == 0 {
        0
    } else {
        PRIORITY_BYTES
    };
    let (priority, block) = payload.split_at_checked(before)?;
    let block = rewrite_block(block)?;
    let length = u32::try_from(priority.len() + block.len())
        .ok()?
        .to_be_bytes();
    Some([&length[1..], &header[3..], priority, &block].concat())
}

/// Exchanges the authority in a compressed list of fields (RFC 7541, section 6).
fn rewrite_block(block: &[u8]) -> Option<Vec<u8>> {
    let mut rewritten = Vec::with_capacity(block.len());
    let mut rest = block;
    while let Some(&first) = rest.first() {
        let field = rest;
        let prefix = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let name = integer(&mut rest, prefix)?;
        let is_literal = prefix == 6 || prefix == 4;
        if is_literal && name == 0 {
            string(&mut rest)?;
        }
        let value = rest;
        if is_literal {
            string(&mut rest)?;
        }
        if is_literal && name == AUTHORITY {
            rewritten.extend_from_slice(&field[..field.len() - value.len()]);
            rewritten.extend_from_slice(LOCALHOST);
        } else {
            rewritten.extend_from_slice(&field[..field.len() - rest.len()]);
        }
    }
    Some(rewritten)
}

/// Takes a number off the front, whose first bits are something else.
fn integer(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let (&first, mut after) = rest.split_first()?;
    let all = (1_usize << prefix) - 1;
    let mut number = usize::from(first) & all;
    if number == all {
        for shift in [0, 7, 14] {
            let (&byte, further) = after.split_first()?;
            after = further;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *rest = after;
                return Some(number);
            }
        }
        return None;
    }
    *rest = after;
    Some(number)
}

/// Takes a text off the front, compressed or not.
fn string(rest: &mut &[u8]) -> Option<()> {
    let length = integer(rest, 7)?;
    *rest = rest.get(length..)?;
    Some(())
}

impl<S: AsyncRead + Unpin> AsyncRead for Localhost<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.ready.is_empty() {
            let mut bytes = [0; 4096];
            let mut some = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut some))?;
            if some.filled().is_empty() {
                // The end; half a frame is of no use to anybody.
                return Poll::Ready(Ok(()));
            }
            self.raw.extend_from_slice(some.filled());
            self.advance()?;
        }
        let length = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..length]);
        self.ready.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Localhost<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Connected> Connected for Localhost<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `:method: POST`, a literal path, the authority and a field by its number in the table.
    fn block(authority: &[u8]) -> Vec<u8> {
        let length = u8::try_from(authority.len()).unwrap();
        [
            &b"\x83\x45\x02/x\x41"[..],
            &[length],
            authority,
            b"\xbe\x00\x01a\x01b\x3f\xe1\x1f",
        ]
        .concat()
    }

    fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, HEADERS, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn authority_is_exchanged_and_nothing_else() {
        let before = block(b"%2Fvar%2Flib%2Fkubelet");
        assert_eq!(rewrite_block(&before), Some(block(b"localhost")));
        let compressed = [b"\x41\x83", &[0xff; 3][..]].concat();
        assert_eq!(
            rewrite_block(&compressed),
            Some(b"\x41\x09localhost".to_vec())
        );
    }

    #[test]
    fn long_texts_are_skipped_by_their_length() {
        let path = "p".repeat(300);
        let text = [b"\x45\x7f\xad\x01", path.as_bytes()].concat();
        let before = [&text[..], b"\x41\x01/"].concat();
        assert_eq!(
            rewrite_block(&before),
            Some([&text[..], b"\x41\x09localhost"].concat())
        );
    }

    #[test]
    fn cut_block_is_left_to_whoever_reads_it() {
        let whole = block(b"%2F");
        for length in [2, 4, 6, 8] {
            assert_eq!(rewrite_block(&whole[..length]), None, "{length}");
        }
        assert_eq!(rewrite_block(b"\x7f\xff\xff\xff\x01"), None);
    }

    #[test]
    fn frames_of_all_sizes_are_passed_on_whole() {
        let more = frame(
            END_HEADERS | PRIORITY,
            &[&[9; 5], &block(b"%2F")[..]].concat(),
        );
        let data = b"\x00\x00\x01\x00\x01\x00\x00\x00\x01x";
        let sent = [
            &[b'P'; PREFACE_BYTES],
            &frame(END_HEADERS, &block(b"/"))[..],
            data,
            &more,
        ]
        .concat();
        let expected = [
            &[b'P'; PREFACE_BYTES],
            &frame(END_HEADERS, &block(b"localhost"))[..],
            data,
            &frame(
                END_HEADERS | PRIORITY,
                &[&[9; 5], &block(b"localhost")[..]].concat(),
            ),
        ]
        .concat();
        for piece in [1, 7, sent.len()] {
            let mut connection = Localhost::new(());
            for bytes in sent.chunks(piece) {
                connection.raw.extend_from_slice(bytes);
                connection.advance().unwrap();
            }
            assert_eq!(connection.ready, expected, "{piece}");
        }
    }

    #[test]
    fn frame_that_nobody_may_send_ends_the_connection() {
        let mut connection = Localhost::new(());
        connection.raw = [&[b'P'; PREFACE_BYTES][..], &[1, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert!(connection.advance().is_err());
    }
}
