//! What a one-time pod says. There is no API server to ask, so what it leaves on the disk says that it is done, and the
//! containers' logs, where the kubelet puts them, say why it is not.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde_json::Value;

use super::{host::Root, layout::Act};

/// Where a kubelet puts the logs of pods.
const LOGS: &str = "/var/log/pods";

impl Act {
    /// How the folder of its pod's logs begins, before the name of the node.
    const fn pod(self) -> &'static str {
        match self {
            Self::Init => "kube-system_strongroom-init-",
            Self::Enrol => "kube-system_strongroom-enrol-",
        }
    }

    const fn containers(self) -> &'static [&'static str] {
        match self {
            Self::Init => &["hsm-agent-init", "hsm-agent", "key-service-init"],
            Self::Enrol => &["kms-plugin-enrol"],
        }
    }
}

/// A line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) container: &'static str,
    pub(super) text: String,
}

/// What a line means to whoever waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Init did not do it, for this reason.
    Failure(String),
    /// Worth showing.
    Progress(String),
    /// A program's ordinary log.
    Detail,
}

impl Line {
    pub(super) fn meaning(&self) -> Meaning {
        let init = self.container.strip_suffix("-init");
        let program = init.or_else(|| self.container.strip_suffix("-enrol"));
        if let Ok(entry) = serde_json::from_str::<Value>(&self.text) {
            return of_log(&entry, program.is_some());
        }
        let reason =
            program.and_then(|program| self.text.strip_prefix(program)?.strip_prefix(": "));
        match reason {
            Some(reason) => Meaning::Failure(reason.to_owned()),
            None => Meaning::Progress(self.text.clone()),
        }
    }
}

/// What a program's log says.
fn of_log(entry: &Value, is_init: bool) -> Meaning {
    let field = |name: &str| entry[name].as_str();
    match (field("level"), field("error")) {
        (Some("ERROR"), Some(reason)) if is_init => Meaning::Failure(reason.to_owned()),
        (Some("ERROR" | "WARN"), error) => {
            let words = [field("message"), error];
            Meaning::Progress(words.into_iter().flatten().collect::<Vec<_>>().join(": "))
        }
        _ => Meaning::Detail,
    }
}

/// The logs of this run's pod.
#[derive(Debug)]
pub(super) struct Logs {
    folder: PathBuf,
    act: Act,
    since: Timestamp,
    /// Lines that were given out.
    seen: usize,
}

impl Logs {
    pub(super) fn new(root: &Root, since: Timestamp, act: Act) -> Self {
        Self {
            folder: root.at(LOGS),
            act,
            since,
            seen: 0,
        }
    }

    /// The lines since the last look, in the order in which they were written.
    pub(super) fn news(&mut self) -> Vec<Line> {
        // A folder that cannot be read has no news; whether init is done does not depend on it.
        let mut lines = self.lines().unwrap_or_default();
        lines.sort_by_key(|(time, _)| *time);
        let news: Vec<Line> = lines
            .drain(..)
            .skip(self.seen)
            .map(|(_, line)| line)
            .collect();
        self.seen += news.len();
        news
    }

    fn lines(&self) -> io::Result<Vec<(Timestamp, Line)>> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry
                .file_name()
                .to_string_lossy()
                .starts_with(self.act.pod())
            {
                continue;
            }
            for container in self.act.containers() {
                let Ok(files) = fs::read_dir(entry.path().join(container)) else {
                    continue;
                };
                for file in files {
                    lines.extend(self.read(&file?.path(), container));
                }
            }
        }
        Ok(lines)
    }

    fn read(&self, path: &Path, container: &'static str) -> Vec<(Timestamp, Line)> {
        let text = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| parse(line, container))
            .filter(|(time, _)| *time >= self.since)
            .collect()
    }
}

/// Reads a line as container runtimes write it: time, stream, whether it is whole, text.
fn parse(line: &str, container: &'static str) -> Option<(Timestamp, Line)> {
    let mut words = line.splitn(4, ' ');
    let time = words.next()?.parse().ok()?;
    let text = words.nth(2)?.to_owned();
    Some((time, Line { container, text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container: &'static str, text: &str) -> Line {
        Line {
            container,
            text: text.to_owned(),
        }
    }

    #[test]
    fn lines_of_this_run_come_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let pod = folder.path().join(format!("{}node_1234", Act::Init.pod()));
        let put = |container: &str, text: &str| {
            fs::create_dir_all(pod.join(container)).unwrap();
            fs::write(pod.join(container).join("0.log"), text).unwrap();
        };
        let mut logs = Logs {
            folder: folder.path().to_owned(),
            act: Act::Init,
            since: "2026-11-22T05:00:00Z".parse().unwrap(),
            seen: 0,
        };
        assert_eq!(logs.news(), []);
        put(
            "hsm-agent-init",
            "2026-11-22T04:59:59.9Z stderr F of a run before\n",
        );
        put(
            "key-service-init",
            "2026-11-22T05:00:02.5Z stdout F initialised\n",
        );
        put("hsm-agent", "2026-11-22T07:00:01+02:00 stderr F serving\n");
        assert_eq!(
            logs.news(),
            [
                line("hsm-agent", "serving"),
                line("key-service-init", "initialised")
            ]
        );
        assert_eq!(logs.news(), []);
    }

    #[test]
    fn last_word_of_a_failed_init_is_known() {
        let check = |container, text, expected| {
            assert_eq!(line(container, text).meaning(), expected, "{text}");
        };
        let failure = |reason: &str| Meaning::Failure(reason.to_owned());
        let progress = |text: &str| Meaning::Progress(text.to_owned());
        check(
            "key-service-init",
            "key-service: the token has objects",
            failure("the token has objects"),
        );
        let error = r#"{"level": "ERROR", "message": "stopped", "error": "there is a token"}"#;
        check("hsm-agent-init", error, failure("there is a token"));
        check("hsm-agent", error, progress("stopped: there is a token"));
        let info = r#"{"level": "INFO", "message": "token", "message": "twice"}"#;
        check("hsm-agent", info, Meaning::Detail);
        check("key-service-init", "initialised", progress("initialised"));
    }
}
