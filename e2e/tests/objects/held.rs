//! A request of a process that has lost its epoch arrives late: on a connection that was held back, as after a stopped process
//! or a cut network, and later on a new one.

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use strongroom_api::strongroom::v1::{DescribeSecretRequest, Tenant};
use strongroom_e2e::issuer::Pod;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

use super::support::{OPERATOR, Process, World, object, secret_request, word};

/// Shorter than the time after which a silent connection is given up, so that the request still arrives on it.
const HELD: Duration = Duration::from_secs(8);

/// A way to the key service on which what is sent can be held back.
struct Way {
    address: SocketAddr,
    held: Arc<Notify>,
    released: Arc<Notify>,
    task: AbortHandle,
}

impl Way {
    /// Leads one connection to an address.
    async fn to(address: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = listener.local_addr()?;
        let (held, released) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let gate = (held.clone(), released.clone());
        let mut tasks = JoinSet::new();
        let task = tasks.spawn(async move {
            let (Ok((near, _)), Ok(far)) =
                (listener.accept().await, TcpStream::connect(address).await)
            else {
                return;
            };
            let (from_near, to_near) = near.into_split();
            let (from_far, to_far) = far.into_split();
            tokio::join!(
                forward(from_near, to_far, Some(gate)),
                forward(from_far, to_near, None)
            );
        });
        tasks.detach_all();
        Ok(Self {
            address: own,
            held,
            released,
            task,
        })
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands bytes on until an end; with a gate, they wait from its first notification to its second.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    gate: Option<(Arc<Notify>, Arc<Notify>)>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if let Some((held, released)) = &gate {
            tokio::select! {
                () = held.notified() => released.notified().await,
                readable = from.readable() => if readable.is_err() { return },
            }
        }
        let read = match gate {
            Some(_) => from.try_read(&mut buffer),
            None => from.read(&mut buffer).await,
        };
        match read {
            Ok(0) => return,
            Ok(length) => {
                if to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_held_back_over_a_takeover_has_no_effect() -> Result<()> {
    let world = World::up("objects-held", 29_140)?;
    let way = Way::to(world.installation.workloads_address()).await?;
    let slow = world.workloads_at(&way.address.to_string()).await?;
    let mut first = Process::new(slow, world.east.token(&OPERATOR)?, 1);
    first.acquire("uid-of-kube-system").await?;
    let ring = object("payments", "uid-of-payments", "main", "ring-1");
    first.ring(&ring, Vec::new()).await??;

    way.held.notify_one();
    // The gate is looked at when nothing comes: from now on what is sent waits.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let db = object("payments", "uid-of-payments", "db", "db-of-the-first");
    let message = secret_request(first.fence(), &db, "main", Vec::new());
    let request = first.request(message)?;
    let mut client = first.client();
    let mut late = JoinSet::new();
    late.spawn(async move { client.apply_secret(request).await });
    tokio::time::sleep(HELD).await;
    ensure!(late.try_join_next().is_none(), "was not held back");

    let other = Pod {
        name: "operator-2",
        ..OPERATOR
    };
    let channel = world.workloads().await?;
    let mut second = Process::new(channel, world.east.token(&other)?, 2);
    second.acquire("uid-of-kube-system").await?;
    let own = object("payments", "uid-of-payments", "db", "db-of-the-second");
    let made = second.secret(&own, "main", Vec::new()).await??;

    way.released.notify_one();
    let answered = late.join_next().await.expect("one was sent")?;
    ensure!(word(answered)? == "StaleControlEpoch");
    // A client that gave its connection up asks again on another one.
    let again =
        Process::new(world.workloads().await?, world.east.token(&OPERATOR)?, 1).with_epoch(1);
    let refused = again.secret(&db, "main", Vec::new()).await?;
    ensure!(word(refused)? == "StaleControlEpoch");
    let native = world.administrator().await?;
    let request = DescribeSecretRequest {
        ring_id: String::new(),
        secret: "db".to_owned(),
        tenant: Some(Tenant {
            cluster: "east".to_owned(),
            namespace: "payments".to_owned(),
        }),
    };
    let now = native
        .secrets()
        .describe_secret(request)
        .await?
        .into_inner();
    ensure!(Some(now) == made.secret, "there was a second effect");
    world.down()
}
