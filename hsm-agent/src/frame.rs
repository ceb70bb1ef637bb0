//! Frames between the two processes: a length (u32, big endian) and one message. Both buffers are wiped, since keys pass.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// No call or answer comes near this.
const FRAME_MAX: usize = 64 * 1024;

type Frame = Zeroizing<Vec<u8>>;

fn encode(message: &impl Message) -> io::Result<Frame> {
    let len = message.encoded_len();
    let mut frame = Zeroizing::new(Vec::with_capacity(4 + len));
    frame.extend_from_slice(&prefix(len)?);
    message.encode(&mut *frame).map_err(io::Error::other)?;
    Ok(frame)
}

fn decode<M: Message + Default>(frame: &Frame) -> io::Result<M> {
    M::decode(frame.as_slice()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn prefix(len: usize) -> io::Result<[u8; 4]> {
    match u32::try_from(len) {
        Ok(prefix) if len <= FRAME_MAX => Ok(prefix.to_be_bytes()),
        _ => Err(too_long(len)),
    }
}

fn buffer(prefix: [u8; 4]) -> io::Result<Frame> {
    match u32::from_be_bytes(prefix) as usize {
        len if len <= FRAME_MAX => Ok(Zeroizing::new(vec![0; len])),
        len => Err(too_long(len)),
    }
}

fn too_long(len: usize) -> io::Error {
    let sentence = format!("a frame of {len} bytes is longer than {FRAME_MAX}");
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}

/// Writes a message.
pub(crate) fn write(mut stream: impl Write, message: &impl Message) -> io::Result<()> {
    stream.write_all(&encode(message)?)
}

/// Reads a message; `None` when the other end is gone.
pub(crate) fn read<M: Message + Default>(mut stream: impl Read) -> io::Result<Option<M>> {
    let mut prefix = [0; 4];
    match stream.read_exact(&mut prefix) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    }
    let mut frame = buffer(prefix)?;
    stream.read_exact(&mut frame)?;
    decode(&frame).map(Some)
}

/// Writes a message and waits for the one that answers it.
pub(crate) async fn exchange<A: Message + Default>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    message: &impl Message,
) -> io::Result<A> {
    stream.write_all(&encode(message)?).await?;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await?;
    let mut frame = buffer(prefix)?;
    stream.read_exact(&mut frame).await?;
    decode(&frame)
}

#[cfg(test)]
mod tests {
    use strongroom_api::strongroom::hsm::v1::RandomResponse;

    use super::*;

    #[test]
    fn a_message_reads_back_what_it_wrote() {
        let mut bytes = Vec::new();
        write(
            &mut bytes,
            &RandomResponse {
                random: vec![1, 2, 3],
            },
        )
        .unwrap();
        let read: Option<RandomResponse> = read(bytes.as_slice()).unwrap();
        assert_eq!(read.unwrap().random, [1, 2, 3]);
    }

    #[test]
    fn an_end_between_frames_is_an_end() {
        assert!(read::<RandomResponse>([].as_slice()).unwrap().is_none());
    }

    #[test]
    fn an_end_within_a_frame_is_a_failure() {
        let error = read::<RandomResponse>([0, 0, 0, 9, 1].as_slice())
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_endless_frame_takes_no_memory() {
        let error = read::<RandomResponse>([0xff, 0xff, 0xff, 0xff].as_slice())
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
