//! User ids decide who talks to whom over sockets, so nobody may lie about them: no program starts in a user namespace,
//! no namespace lends a uid to its processes, and nobody who sits on a socket's path gets a byte.

use std::{
    fs,
    io::Read,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        net::UnixListener,
    },
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::world::{run, wait};
use strongroom_hack::installation::{
    AGENT_UID, Installation, KEY_SERVICE_UID, PLUGIN_UID, Program,
};

use crate::place::{Place, difference};

/// Nobody's user id.
const STRANGER_UID: u32 = 2099;
const NAMED_WITHIN: Duration = Duration::from_secs(60);

/// Greets in HTTP/2, and tells how many bytes of the answer came before the end.
const GREET: &str = r#"
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(30)
peer.connect(sys.argv[1])
try:
    peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
    answer = peer.recv(9)
except (BrokenPipeError, ConnectionResetError):
    answer = b""
print(len(answer))
"#;

#[test]
fn nobody_lies_about_a_user_id_on_a_socket() -> Result<()> {
    let mut place = Place::initialised("refusals-peers", 25020)?;
    no_program_starts_in_a_user_namespace(&place)?;
    place.installation.start(Program::KeyService, &[])?;
    place.installation.start(Program::KmsPlugin, &[])?;
    for program in Program::ALL {
        place.installation.wait_ready(program)?;
    }
    namespace_lends_nobody_a_uid(&place.installation)?;
    squatted_paths_get_no_byte(&mut place)?;
    place.clean_up()
}

fn no_program_starts_in_a_user_namespace(place: &Place) -> Result<()> {
    for (program, subcommand) in [
        (Program::HsmAgent, "serve"),
        (Program::HsmAgent, "init"),
        (Program::KeyService, "serve"),
        (Program::KeyService, "init"),
        (Program::KmsPlugin, "serve"),
    ] {
        let before = place.bytes()?;
        let output = in_user_namespace(&place.installation, program, subcommand)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let name = program.name();
        ensure!(
            output.status.code() == Some(1),
            "{name} {subcommand} ended with {}: {said}",
            output.status
        );
        let sentence =
            "the process runs in a user namespace (/proc/self/uid_map is not the identity)";
        ensure!(said.contains(sentence), "{name} {subcommand}: {said}");
        let changed = difference(&before, &place.bytes()?);
        ensure!(
            changed.is_empty(),
            "{name} {subcommand}: but {changed:?} were written"
        );
    }
    Ok(())
}

/// Runs a command of a program under its own user id, which is root's in the namespace.
fn in_user_namespace(of: &Installation, program: Program, subcommand: &str) -> Result<Output> {
    let within_reach = within_reach(of, program)?;
    let plain = of.command(program, subcommand);
    let mut command = Command::new(plain.get_program());
    let mut entered = false;
    for argument in plain.get_args() {
        // Options of setpriv come first, then the program.
        if !entered && !argument.to_string_lossy().starts_with("--") {
            command.args(["unshare", "--user", "--map-root-user", "timeout", "60"]);
            entered = true;
            command.arg(&within_reach);
            continue;
        }
        command.arg(argument);
    }
    ensure!(entered, "{plain:?} runs no program");
    Ok(command.current_dir("/").output()?)
}

/// A copy where its own user can start it: whoever builds may keep the binaries in a folder that nobody else can enter,
/// and unshare starts them without root's capabilities.
fn within_reach(of: &Installation, program: Program) -> Result<PathBuf> {
    let folder = of.path("within-reach");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let copy = folder.join(program.name());
    let plain = of.command(program, "serve");
    let binary = plain
        .get_args()
        .find(|argument| !argument.to_string_lossy().starts_with("--"))
        .with_context(|| format!("{plain:?} runs no program"))?;
    fs::copy(binary, &copy)?;
    Ok(copy)
}

/// With the group that opens the folder, so that the user id alone decides.
fn namespace_lends_nobody_a_uid(of: &Installation) -> Result<()> {
    for (socket, client) in [
        ("run/hsm/agent.sock", KEY_SERVICE_UID),
        ("run/kms/key-service.sock", PLUGIN_UID),
        ("run/plugin/kms.sock", 0),
    ] {
        let path = of.path(socket);
        let path = path.to_str().context("a plain path")?;
        let group = fs::metadata(path)?.gid();
        let greets = |uid: u32, within: &[&str]| -> Result<u32> {
            let mut command = Command::new("setpriv");
            command.args([
                format!("--reuid={uid}"),
                format!("--regid={group}"),
                "--clear-groups".to_owned(),
            ]);
            command
                .args(within)
                .args(["/usr/bin/python3", "-c", GREET, path]);
            Ok(run(&mut command)?.trim().parse()?)
        };
        ensure!(greets(client, &[])? > 0, "the control: {socket} answers");
        let lent = format!("--map-user={client}");
        let as_client = ["unshare", "--user", lent.as_str()];
        ensure!(
            greets(STRANGER_UID, &as_client)? == 0,
            "{socket} answered a stranger who calls himself {client}"
        );
    }
    Ok(())
}

fn squatted_paths_get_no_byte(place: &mut Place) -> Result<()> {
    for (server, socket, owner, client, condition) in [
        (
            Program::HsmAgent,
            "run/hsm/agent.sock",
            AGENT_UID,
            Program::KeyService,
            "hsm: ",
        ),
        (
            Program::KeyService,
            "run/kms/key-service.sock",
            KEY_SERVICE_UID,
            Program::KmsPlugin,
            "key-service: ",
        ),
    ] {
        let of = &mut place.installation;
        of.stop(client)?;
        let path = of.path(socket);
        let group = fs::metadata(&path)?.gid();
        of.stop(server)?;
        let squatter = UnixListener::bind(&path)?;
        chown(&path, Some(STRANGER_UID), Some(group))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660))?;
        of.start(client, &[])?;
        let sentence = format!("{} belongs to uid {STRANGER_UID}", path.display());
        says(of, client, condition, &sentence)?;

        // The right owner, and somebody else who listens: only the listener's credentials tell.
        chown(&path, Some(owner), None)?;
        says(of, client, condition, "uid 0")?;
        squatter.set_nonblocking(true)?;
        while let Ok((mut connection, _)) = squatter.accept() {
            let mut bytes = Vec::new();
            connection.read_to_end(&mut bytes)?;
            ensure!(bytes.is_empty(), "{} gave {bytes:?}", client.name());
        }
        drop(squatter);
        of.start(server, &[])?;
        of.wait_ready(server)?;
        of.wait_ready(client)?;
    }
    Ok(())
}

fn says(of: &Installation, program: Program, condition: &str, sentence: &str) -> Result<()> {
    let what = format!("{} says {sentence}", program.name());
    wait(NAMED_WITHIN, &what, || {
        let body = of.probe(program, "/readyz")?.body;
        let line = body.lines().find(|line| line.starts_with(condition));
        ensure!(line.is_some_and(|line| line.contains(sentence)), "{body}");
        Ok(true)
    })
}
