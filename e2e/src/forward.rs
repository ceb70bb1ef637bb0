//! A port of the machine that leads into a cluster's network, for programs that run outside it. It can be cut.

use std::{
    fs::File,
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The port on loopback that the cluster's API server has inside.
const API_SERVER: u16 = 6443;

/// Leads to the API server of a cluster until it is dropped.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Forward {
    /// Opens a port; `inside` is any process in the cluster's network.
    ///
    /// # Errors
    /// When the network cannot be entered.
    pub fn open(inside: i32) -> Result<Self> {
        let network = format!("/proc/{inside}/ns/net");
        let network = Arc::new(File::open(&network).with_context(|| network)?);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (cut, end) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let open = Arc::<Mutex<Vec<TcpStream>>>::default();
        let forward = Self {
            address,
            cut: cut.clone(),
            end: Arc::clone(&end),
            open: open.clone(),
        };
        thread::spawn(move || {
            for accepted in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(outside) = accepted
                    && !cut.load(Ordering::Relaxed)
                {
                    let network = network.clone();
                    if let Ok(connection) = outside.try_clone() {
                        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                        open.push(connection);
                    }
                    thread::spawn(move || carry(&outside, &network));
                }
            }
        });
        Ok(forward)
    }

    /// Where the API server is for programs outside.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Ends every connection there is; new ones are let in.
    pub fn drop_connections(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in open.drain(..) {
            // One that has ended already is what is wanted.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Refuses new connections, or lets them in again.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn carry(outside: &TcpStream, network: &File) -> Option<()> {
    // Of this thread alone.
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).ok()?;
    let inside = TcpStream::connect(("127.0.0.1", API_SERVER)).ok()?;
    let (from, to) = (outside.try_clone().ok()?, inside.try_clone().ok()?);
    let back = thread::spawn(move || copy(&to, &from));
    copy(outside, &inside);
    back.join().ok()
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
