//! What happens at a path that is taken, and to peers that are not ours.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink},
        net::{UnixListener as StdListener, UnixStream as StdStream},
    },
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio_stream::StreamExt;

use super::{path::PathError, *};

const STRANGER: u32 = 54321;

fn us() -> u32 {
    geteuid().as_raw()
}

fn options() -> SocketOptions {
    SocketOptions::new(Peers::for_api_server([us()]).unwrap())
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.sock");
    (folder, path)
}

fn stale(path: &Path) {
    drop(StdListener::bind(path).unwrap());
    assert!(fs::metadata(path).unwrap().file_type().is_socket());
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let (_folder, path) = place();
    stale(&path);
    let mut incoming = bind(&path, options()).unwrap();
    let _client = StdStream::connect(&path).unwrap();
    let accepted = incoming.next().await.unwrap().unwrap();
    assert_eq!(accepted.peer().uid, us());
}

#[tokio::test]
async fn a_live_socket_is_never_stolen() {
    let (_folder, path) = place();
    let first = StdListener::bind(&path).unwrap();
    let error = bind(&path, options()).unwrap_err();
    assert!(matches!(error, BindError::Live { .. }), "{error}");
    let mut client = StdStream::connect(&path).unwrap();
    client.write_all(b"x").unwrap();
    let mut byte = [0];
    // The first to connect was the question whether anybody listens.
    drop(first.accept().unwrap());
    first.accept().unwrap().0.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[tokio::test]
async fn a_second_listener_of_ours_meets_the_first() {
    let (_folder, path) = place();
    let _first = bind(&path, options()).unwrap();
    let error = bind(&path, options()).unwrap_err();
    assert!(matches!(error, BindError::Live { .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_a_socket_is_never_deleted() {
    let (folder, path) = place();
    fs::write(&path, "precious").unwrap();
    let error = bind(&path, options()).unwrap_err();
    assert!(
        matches!(error, BindError::Path(PathError::NotSocket { .. })),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

    let link = folder.path().join("link.sock");
    symlink(&path, &link).unwrap();
    assert!(bind(&link, options()).is_err());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[tokio::test]
async fn a_socket_left_between_bind_and_rename_is_removed() {
    let (folder, path) = place();
    stale(&folder.path().join(".test.sock~"));
    let _incoming = bind(&path, options()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn the_socket_has_its_mode_whatever_the_umask() {
    let (_folder, path) = place();
    let _incoming = bind(&path, options()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
}

#[tokio::test]
async fn a_folder_that_others_can_change_is_refused() {
    let (folder, path) = place();
    for mode in [0o770, 0o707, 0o1777] {
        chmod(folder.path(), mode);
        let error = bind(&path, options()).unwrap_err();
        assert!(
            matches!(error, BindError::Path(PathError::Writable { .. })),
            "{mode:o}: {error}"
        );
    }
    chmod(folder.path(), 0o750);
    bind(&path, options()).unwrap();
}

#[tokio::test]
async fn a_link_on_the_way_is_refused() {
    let (folder, _) = place();
    fs::create_dir(folder.path().join("real")).unwrap();
    symlink("real", folder.path().join("link")).unwrap();
    let error = bind(&folder.path().join("link/test.sock"), options()).unwrap_err();
    assert!(
        matches!(error, BindError::Path(PathError::Symlink { .. })),
        "{error}"
    );
    let error = bind(&folder.path().join("real/../real/test.sock"), options()).unwrap_err();
    assert!(
        matches!(error, BindError::Path(PathError::NotPlain { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn an_end_removes_its_own_socket_only() {
    let (folder, path) = place();
    let incoming = bind(&path, options()).unwrap();
    drop(incoming);
    assert!(!path.exists());

    let incoming = bind(&path, options()).unwrap();
    let successor = folder.path().join("successor");
    let _listener = StdListener::bind(&successor).unwrap();
    fs::rename(&successor, &path).unwrap();
    drop(incoming);
    assert!(path.exists());
}

#[tokio::test]
async fn a_peer_that_is_not_listed_gets_nothing() {
    let (_folder, path) = place();
    let strangers = SocketOptions::new(Peers::new([STRANGER]).unwrap());
    let mut incoming = bind(&path, strangers).unwrap();
    let refusals = incoming.refusals();
    let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
    let mut bytes = Vec::new();
    tokio::select! {
        _ = incoming.next() => panic!("the peer was admitted"),
        end = client.read_to_end(&mut bytes) => assert_eq!(end.unwrap(), 0),
    }
    assert_eq!(refusals.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up() {
    let (_folder, path) = place();
    let mut incoming = bind(&path, options()).unwrap();
    let mut client = StdStream::connect(&path).unwrap();
    client.write_all(b"PRI").unwrap();
    let mut accepted = incoming.next().await.unwrap().unwrap();
    let error = accepted.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_client_checks_the_owner_of_the_socket() {
    let (_folder, path) = place();
    let _incoming = bind(&path, options()).unwrap();
    assert!(connect(&path, us()).await.is_ok());
    let error = connect(&path, STRANGER).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Path(PathError::Owner { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_listener_that_is_not_there_yet_is_away() {
    let (_folder, path) = place();
    let error = connect(&path, us()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_client_refuses_a_socket_that_the_world_can_use() {
    let (_folder, path) = place();
    let _incoming = bind(&path, options()).unwrap();
    chmod(&path, 0o666);
    let error = connect(&path, us()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Path(PathError::Writable { .. })),
        "{error}"
    );
}

/// Root alone can make a socket that looks like another user's; for others the owner is checked above.
#[tokio::test]
async fn a_client_checks_who_listens() {
    let (_folder, path) = place();
    let mut incoming = bind(&path, options()).unwrap();
    if lchown(&path, Some(STRANGER), None).is_err() {
        return;
    }
    let error = connect(&path, STRANGER).await.unwrap_err();
    let ConnectError::Listener {
        expected, actual, ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((expected, actual), (STRANGER, us()));
    let mut accepted = incoming.next().await.unwrap().unwrap();
    assert_eq!(accepted.read(&mut [0]).await.unwrap(), 0, "a byte was sent");
}
