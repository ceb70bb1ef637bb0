//! An API server that holds what a test puts into it, and remembers what it was asked to change.
//!
//! Enough of one for what commands read and write; what a real one does with it is for the end-to-end tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Map, Value, json};

use crate::{common::User, pki::write};

/// What a request changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

#[derive(Default)]
pub(crate) struct ApiState {
    /// By path.
    pub(crate) objects: BTreeMap<String, Value>,
    /// Paths that the user may not read or write.
    pub(crate) denied: BTreeSet<String>,
    pub(crate) changes: Vec<Change>,
    /// What a controller writes into each object that is made or changed, at once.
    pub(crate) status: Value,
}

/// Serves as long as the test runs.
pub(crate) struct Api {
    address: SocketAddr,
    state: Arc<Mutex<ApiState>>,
}

/// Kinds that commands list.
const COLLECTIONS: [&str; 9] = [
    "events",
    "statefulsets",
    "deployments",
    "daemonsets",
    "keyrings",
    "cryptokeys",
    "managedsecrets",
    "secretbundles",
    "secretrotations",
];

pub(crate) const OURS: &str = "/apis/strongroom.dev/v1alpha1";

impl Api {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(ApiState::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is not the server's business.
                let _ = serve(&stream.unwrap(), &shared);
            }
        });
        Self { address, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, ApiState> {
        self.state.lock().unwrap()
    }

    /// Puts an object of ours into namespace `payments`, as YAML.
    pub(crate) fn put(&self, resource: &str, yaml: &str) {
        self.put_at(&format!("{OURS}/namespaces/payments/{resource}"), yaml);
    }

    /// Puts an object under the path of its kind.
    pub(crate) fn put_at(&self, folder: &str, yaml: &str) {
        let object: Value = serde_yaml_ng::from_str(yaml).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.state()
            .objects
            .insert(format!("{folder}/{name}"), object);
    }

    /// Gives the user a kubeconfig that leads here.
    pub(crate) fn configure(&self, user: &User) {
        let folder = user.path().join(".kube");
        std::fs::create_dir_all(&folder).unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me", "namespace": "payments"}}],
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "me", "user": {}}],
        });
        write(&folder, "config", &kubeconfig.to_string());
    }
}

fn serve(stream: &TcpStream, state: &Mutex<ApiState>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut parts = line.split_whitespace();
    let (Some(method), Some(path)) = (parts.next(), parts.next()) else {
        return Ok(());
    };
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (code, answer) = answer(&mut state.lock().unwrap(), method, path, body);
    let answer = answer.to_string();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
        answer.len()
    )
}

fn answer(state: &mut ApiState, method: &str, target: &str, body: Value) -> (u16, Value) {
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    if state.denied.contains(path) {
        return (
            403,
            failure(403, "forbidden: user \"me\" cannot do that", ""),
        );
    }
    match method {
        "GET" => get(state, path),
        _ => change(state, method, target, path, body),
    }
}

fn get(state: &ApiState, path: &str) -> (u16, Value) {
    if let Some(object) = state.objects.get(path) {
        return (200, object.clone());
    }
    let (folder, last) = path.rsplit_once('/').unwrap();
    if COLLECTIONS.contains(&last) {
        let of_kind = |key: &&String| {
            let (kind, _) = key.rsplit_once('/').unwrap();
            kind == path || (kind.starts_with(folder) && kind.ends_with(&format!("/{last}")))
        };
        let items: Vec<&Value> = state
            .objects
            .keys()
            .filter(of_kind)
            .map(|key| &state.objects[key])
            .collect();
        return (200, json!({"kind": "List", "metadata": {}, "items": items}));
    }
    (404, failure(404, "not found", last))
}

fn change(
    state: &mut ApiState,
    method: &str,
    target: &str,
    path: &str,
    body: Value,
) -> (u16, Value) {
    state.changes.push(Change {
        method: method.to_owned(),
        path: target.to_owned(),
        body: body.clone(),
    });
    let (path, mut object) = if method == "POST" {
        let mut object = body;
        let metadata = &mut object["metadata"];
        if let Some(prefix) = metadata["generateName"].as_str() {
            metadata["name"] = json!(format!("{prefix}x7k2p"));
        }
        let name = metadata["name"].as_str().unwrap();
        (format!("{path}/{name}"), object)
    } else {
        let mut object = state.objects[path].clone();
        merge(&mut object, &body);
        (path.to_owned(), object)
    };
    merge(&mut object, &json!({"status": state.status.clone()}));
    if !target.contains("dryRun") {
        state.objects.insert(path, object.clone());
    }
    (200, object)
}

fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(
                    object.entry(key).or_insert(Value::Object(Map::new())),
                    value,
                );
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

fn failure(code: u16, message: &str, name: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": if code == 404 { "NotFound" } else { "Forbidden" },
        "message": message,
        "details": {"name": name},
    })
}
