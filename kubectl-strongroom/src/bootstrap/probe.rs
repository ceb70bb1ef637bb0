//! Asks a program of ours on loopback how it is, as the kubelet does.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(5);

/// Asks `/readyz`: ready, or what is missing.
pub(super) fn ready(port: u16) -> Result<(), String> {
    match ask(port) {
        Ok(answer) => judge(&answer),
        Err(_) => Err("it does not answer yet".to_owned()),
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), LIMIT)
}

fn ask(port: u16) -> io::Result<String> {
    let mut stream = connect(port)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn judge(answer: &str) -> Result<(), String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let missing: Vec<&str> = body.lines().map(str::trim).collect();
    Err(missing.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_ready_and_the_rest_says_what_is_missing() {
        assert_eq!(judge("HTTP/1.1 200 OK\r\n\r\nok"), Ok(()));
        assert_eq!(
            judge("HTTP/1.1 503 Unavailable\r\n\r\ntoken: missing\nstore: open\n"),
            Err("token: missing; store: open".to_owned())
        );
        assert_eq!(judge(""), Err(String::new()));
    }
}
