//! One HTTP/1.1 GET on loopback, as a kubelet would make it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

const LIMIT: Duration = Duration::from_secs(5);

/// What a probe said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The text.
    pub body: String,
}

/// Asks a probe address on loopback.
///
/// # Errors
/// When nobody answers.
pub fn get(port: u16, path: &str) -> Result<Answer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .context("no HTTP status")?
        .parse()?;
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}
