//! Those who are not let in, or not far. Each kind has source addresses of its own, of which loopback has many.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use strongroom_api::strongroom::v1::{RotateKeyRequest, keys_client::KeysClient};
use strongroom_e2e::{
    mtls::{self, Credentials, StoryClock},
    remote::Remote,
    stage::Stage,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UnixStream},
    runtime::Runtime,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::client::TlsStream;
use tonic::Code;

/// Somebody with a certificate who may do nothing.
pub(crate) const TENANT: &str = "orders";
/// Another one, who ends no call that he begins.
pub(crate) const HOLDER: &str = "holder";
/// Connections that all of them together can have open.
pub(crate) const HELD_MAX: usize = 1_200;

/// Sources of each kind.
const SOURCES: u8 = 4;
/// Connections that one source tries to hold.
const HELD: usize = 100;
/// Streams that are opened on a connection and never ended.
const STREAMS: u32 = 100;
/// How long one attempt is held before the next.
const HOLD: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// What every one of them needs.
#[derive(Clone)]
struct Target {
    native: SocketAddr,
    plugins: SocketAddr,
    socket: PathBuf,
    clock: StoryClock,
    node: Credentials,
    administrator: Credentials,
    tenant: Credentials,
    holder: Credentials,
    unknown: Credentials,
    over: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
}

/// All of them, at work on a runtime of their own.
pub(crate) struct Crowd {
    runtime: Runtime,
    floods: JoinSet<Result<()>>,
    target: Target,
}

impl Crowd {
    pub(crate) fn gather(stage: &Stage, clock: &StoryClock, remote: &Remote) -> Result<Self> {
        let installation = &stage.installation;
        let administrator = Credentials::of_administrator(installation, "administrator")?;
        let target = Target {
            native: installation.server().parse()?,
            plugins: installation.plugins_address().parse()?,
            socket: installation.path("run/kms/key-service.sock"),
            clock: clock.clone(),
            node: Credentials::of_node(&remote.identity())?,
            tenant: Credentials::of_administrator(installation, TENANT)?,
            holder: Credentials::of_administrator(installation, HOLDER)?,
            unknown: unknown(&administrator)?,
            administrator,
            over: Arc::default(),
            refused: Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let mut floods = JoinSet::new();
        for number in 0..SOURCES {
            for address in [target.native, target.plugins] {
                let at = |kind| source(kind, number);
                floods.spawn_on(silent(target.clone(), address, at(1)), runtime.handle());
                floods.spawn_on(random(target.clone(), address, at(2)), runtime.handle());
                floods.spawn_on(wrong(target.clone(), address, at(3)), runtime.handle());
                floods.spawn_on(half_open(target.clone(), address, at(4)), runtime.handle());
            }
            floods.spawn_on(foreign_peer(target.clone()), runtime.handle());
        }
        floods.spawn_on(refused(target.clone(), source(5, 0)), runtime.handle());
        Ok(Self {
            runtime,
            floods,
            target,
        })
    }

    /// Sends them home, and returns how many calls of the tenant were refused.
    pub(crate) fn disperse(mut self) -> Result<u64> {
        self.target.over.store(true, Ordering::SeqCst);
        self.runtime.block_on(async {
            while let Some(flood) = self.floods.join_next().await {
                flood??;
            }
            anyhow::Ok(())
        })?;
        Ok(self.target.refused.load(Ordering::SeqCst))
    }
}

fn source(kind: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, kind, number + 1)
}

/// A certificate that nobody issued whom the key service knows.
fn unknown(like: &Credentials) -> Result<Credentials> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::default().self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(like.showing(vec![certificate.der().clone()], key))
}

impl Target {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    async fn hold(&self) {
        let mut left = HOLD;
        while !self.is_over() && !left.is_zero() {
            sleep(PAUSE * 5).await;
            left = left.saturating_sub(PAUSE * 5);
        }
    }
}

async fn connect(address: SocketAddr, from: Ipv4Addr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
    Ok(socket.connect(address).await?)
}

/// Connects and says nothing.
async fn silent(target: Target, address: SocketAddr, from: Ipv4Addr) -> Result<()> {
    while !target.is_over() {
        let mut held = Vec::new();
        for _ in 0..HELD {
            held.push(connect(address, from).await?);
        }
        target.hold().await;
    }
    Ok(())
}

/// Says what is no TLS.
async fn random(target: Target, address: SocketAddr, from: Ipv4Addr) -> Result<()> {
    let mut bytes = vec![0; 4096];
    while !target.is_over() {
        aws_lc_rs::rand::fill(&mut bytes)?;
        let mut stream = connect(address, from).await?;
        // The other end may hang up in the middle.
        let _ = stream.write_all(&bytes).await;
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Shakes hands with each certificate that is none for this port, and with none at all.
async fn wrong(target: Target, address: SocketAddr, from: Ipv4Addr) -> Result<()> {
    let foreign = if address == target.native {
        &target.node
    } else {
        &target.administrator
    };
    let configs = [
        target.unknown.config(&target.clock)?,
        foreign.config(&target.clock)?,
        target.administrator.stranger_config(&target.clock)?,
    ];
    while !target.is_over() {
        for config in &configs {
            let stream = connect(address, from).await?;
            // With TLS 1.3 the server judges afterwards: a byte that is read, or the end, is its word.
            if let Ok(mut stream) = mtls::greet(stream, config.clone()).await {
                let _ = timeout(PAUSE, stream.read_u8()).await;
            }
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Comes as far as HTTP/2 and begins calls that it never ends: as somebody who may do nothing, or as somebody about to enrol.
async fn half_open(target: Target, address: SocketAddr, from: Ipv4Addr) -> Result<()> {
    let (config, path) = if address == target.native {
        (
            target.holder.config(&target.clock)?,
            "/strongroom.v1.Keys/RotateKey",
        )
    } else {
        (
            target.administrator.stranger_config(&target.clock)?,
            "/strongroom.kms.v1.EtcdKeys/Decrypt",
        )
    };
    while !target.is_over() {
        let mut held = Vec::new();
        for number in 0..8 {
            let stream = connect(address, from).await?;
            // Refused by its source's quota, most of the time.
            let Ok(mut stream) = mtls::greet(stream, config.clone()).await else {
                continue;
            };
            // Every second one does not even say that it speaks HTTP/2.
            if number % 2 == 0 && begin_calls(&mut stream, path).await.is_err() {
                continue;
            }
            held.push(stream);
        }
        target.hold().await;
    }
    Ok(())
}

async fn begin_calls(stream: &mut TlsStream<TcpStream>, path: &str) -> Result<()> {
    stream.write_all(&[PREFACE, SETTINGS].concat()).await?;
    for number in 0..STREAMS {
        stream.write_all(&headers(2 * number + 1, path)).await?;
    }
    Ok(stream.flush().await?)
}

/// A HEADERS frame that ends the headers and not the stream, without any compression.
fn headers(stream: u32, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "key-service.strongroom.dev"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    let length = u32::try_from(block.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[1, 4]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&block);
    frame
}

/// Calls what it may not, one call after the other, and counts.
async fn refused(target: Target, from: Ipv4Addr) -> Result<()> {
    let stream = connect(target.native, from).await?;
    let stream = mtls::greet(stream, target.tenant.config(&target.clock)?).await?;
    let channel = mtls::speak_over(stream).await?;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let (mut client, target) = (KeysClient::new(channel.clone()), target.clone());
        calls.spawn(async move {
            while !target.is_over() {
                let request = RotateKeyRequest {
                    ring_id: format!("{:032x}", 1),
                    key: "orders".to_owned(),
                    etag: String::new(),
                };
                let answer = client.rotate_key(request).await;
                let status = answer.err().context("the tenant rotated a key")?;
                ensure!(status.code() == Code::NotFound, "{status}");
                target.refused.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
    }
    while let Some(call) = calls.join_next().await {
        call??;
    }
    Ok(())
}

/// Connects to the plugin's socket without being the plugin.
async fn foreign_peer(target: Target) -> Result<()> {
    while !target.is_over() {
        let mut stream = UnixStream::connect(&target.socket).await?;
        let _ = stream.write_all(PREFACE).await;
        let read = timeout(HOLD, stream.read_u8()).await;
        ensure!(!matches!(read, Ok(Ok(_))), "a foreign user id was answered");
        sleep(PAUSE / 4).await;
    }
    Ok(())
}
