//! A way to the key service on which requests can be held back while their connection lives: it ends TLS on both sides and reads
//! HTTP/2's frames, so that it answers the server's pings in the place of a client that stands still.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener as BlockingListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        oneshot, watch,
    },
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NAME: &str = "key-service.strongroom.dev";
const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const ACK: u8 = 1;

/// The way; it ends when it is dropped.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    root: String,
    is_shut: watch::Sender<bool>,
    held: Arc<AtomicUsize>,
    _end: oneshot::Sender<()>,
}

/// What a connection needs.
#[derive(Clone)]
struct Way {
    to: String,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    is_shut: watch::Receiver<bool>,
    held: Arc<AtomicUsize>,
}

impl Gate {
    /// Opens a way to an address of the key service whose root is in a file.
    ///
    /// # Errors
    /// When the root cannot be read, or no port is free.
    pub fn open(to: String, root: &Path) -> Result<Self> {
        let (own_root, acceptor) = acceptor()?;
        let listener = BlockingListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (is_shut, shut) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let held = Arc::<AtomicUsize>::default();
        let way = Way {
            to,
            acceptor,
            connector: connector(root)?,
            is_shut: shut,
            held: held.clone(),
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    _ = lead(listener, way) => {}
                }
            });
        });
        Ok(Self {
            address,
            root: own_root,
            is_shut,
            held,
            _end: end,
        })
    }

    /// Where the key service is for whoever goes this way.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root certificate of this way, PEM.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Holds back whatever is asked from now on.
    pub fn shut(&self) {
        self.is_shut.send_replace(true);
    }

    /// Hands on what was held back, in its order.
    pub fn release(&self) {
        self.is_shut.send_replace(false);
    }

    /// How many requests were held back so far.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

fn acceptor() -> Result<(String, TlsAcceptor)> {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new([NAME.to_owned()])?.signed_by(&key, &root)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let mut config = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok((root.pem(), TlsAcceptor::from(Arc::new(config))))
}

fn connector(root: &Path) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let pem = fs::read(root).with_context(|| root.display().to_string())?;
    roots.add(CertificateDer::from_pem_slice(&pem)?)?;
    let mut config = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn lead(listener: BlockingListener, way: Way) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await?;
        let way = way.clone();
        // A connection that breaks is what either side would have seen without us.
        connections.spawn(async move { way.carry(near).await.ok() });
    }
}

impl Way {
    async fn carry(self, near: TcpStream) -> io::Result<()> {
        let far = TcpStream::connect(&self.to).await?;
        let name = NAME.try_into().map_err(io::Error::other)?;
        let far = self.connector.connect(name, far).await?;
        let near = self.acceptor.accept(near).await?;
        let (near, to_near) = split(near);
        let (far, to_far) = split(far);
        let (ping, pings) = mpsc::unbounded_channel();
        tokio::try_join!(self.ask(near, to_far, pings), answer(far, to_near, ping))?;
        Ok(())
    }

    /// Hands on what is asked, and answers the server's pings.
    async fn ask(
        &self,
        mut near: impl AsyncRead + Unpin,
        mut far: impl AsyncWrite + Unpin,
        mut pings: UnboundedReceiver<Frame>,
    ) -> io::Result<()> {
        let mut preface = [0; PREFACE_BYTES];
        near.read_exact(&mut preface).await?;
        far.write_all(&preface).await?;
        let (sender, mut frames) = mpsc::unbounded_channel();
        let reading = async move {
            while let Ok(frame) = Frame::read(&mut near).await {
                // Whoever writes has ended, and says why.
                let _ = sender.send(frame);
            }
        };
        let writing = async {
            let mut is_shut = self.is_shut.clone();
            let mut waiting = Vec::new();
            loop {
                tokio::select! {
                    frame = frames.recv() => match frame {
                        Some(frame) if frame.is_of_connection() => far.write_all(&frame.0).await?,
                        Some(frame) => waiting.push(self.counted(frame)),
                        None => return far.shutdown().await,
                    },
                    Some(ping) = pings.recv() => far.write_all(&ping.acknowledged().0).await?,
                    _ = is_shut.changed() => {}
                }
                let is_open = !*is_shut.borrow_and_update();
                if is_open {
                    for frame in waiting.drain(..) {
                        far.write_all(&frame.0).await?;
                    }
                }
                far.flush().await?;
            }
        };
        tokio::join!(reading, writing).1
    }

    fn counted(&self, frame: Frame) -> Frame {
        if frame.kind() == HEADERS && *self.is_shut.borrow() {
            self.held.fetch_add(1, Ordering::Relaxed);
        }
        frame
    }
}

/// Hands on what is answered, but for pings.
async fn answer(
    mut far: impl AsyncRead + Unpin,
    mut near: impl AsyncWrite + Unpin,
    pings: UnboundedSender<Frame>,
) -> io::Result<()> {
    loop {
        let frame = Frame::read(&mut far).await?;
        if frame.kind() == PING && frame.flags() & ACK == 0 {
            // Nobody who has gone away is pinged.
            let _ = pings.send(frame);
        } else {
            near.write_all(&frame.0).await?;
            near.flush().await?;
        }
    }
}

/// A frame of HTTP/2 with its header.
struct Frame(Vec<u8>);

impl Frame {
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut frame = vec![0; HEADER_BYTES];
        from.read_exact(&mut frame).await?;
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let mut payload = from.take(u64::from(length));
        let read = payload.read_to_end(&mut frame).await?;
        if read as u64 == u64::from(length) {
            Ok(Self(frame))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn kind(&self) -> u8 {
        self.0[3]
    }

    fn flags(&self) -> u8 {
        self.0[4]
    }

    fn is_of_connection(&self) -> bool {
        self.0[5..HEADER_BYTES].iter().all(|byte| *byte == 0)
    }

    fn acknowledged(mut self) -> Self {
        self.0[4] |= ACK;
        self
    }
}
