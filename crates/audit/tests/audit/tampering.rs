//! Whatever is done to a log that ends with a witnessed checkpoint is found and named.

use std::{fs, io::Write, ops::Range, path::Path};

use strongroom_audit::{
    CheckpointCertificate, Hash, Kind, Origin, Report, Share, Statement, Status, Tampering, Trust,
    verify,
};

use crate::common::*;

/// A log of two runs whose last checkpoint covers all of it.
struct Evidence {
    dir: tempfile::TempDir,
    certifier: Certifier,
    trust: Trust,
}

impl Evidence {
    async fn collect(records: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certifier = Certifier::new();
        let last = write_log(dir.path(), &certifier, records).await;
        let trust = certifier.trust(Some(last));
        let evidence = Self {
            dir,
            certifier,
            trust,
        };
        assert_eq!(evidence.verify().status, Status::Complete);
        evidence
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn verify(&self) -> Report {
        verify(self.path(), &self.trust).unwrap()
    }

    /// Puts `bytes` in the place of a file, verifies, and puts the file back.
    fn verify_with(&self, file: &str, bytes: &[u8]) -> Report {
        let path = self.path().join(file);
        let good = fs::read(&path).unwrap();
        overwrite(&path, bytes);
        let report = self.verify();
        overwrite(&path, &good);
        report
    }

    /// Names of the files that prove something.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            // These tell the writer where it is, and no reader anything.
            .filter(|name| !["lock", "reserve", "origin"].contains(&name.as_str()))
            .collect();
        names.sort();
        names
    }

    fn segments(&self) -> Vec<String> {
        self.files()
            .into_iter()
            .filter(|f| f.starts_with("log-"))
            .collect()
    }
}

/// Writes without emptying the file first: ext4 would flush it to the disk each time.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

/// The place that a report names. Panics if it names none.
fn place(report: Report, done: &str) -> Tampering {
    assert_eq!(
        report.status,
        Status::Tampered,
        "{done} was not found: {report:?}"
    );
    assert_eq!(report.status.exit_code(), 1);
    report.tampering.unwrap()
}

/// The entries of a file: lines, or notes of nine lines.
fn entries(file: &str, bytes: &[u8]) -> Vec<Range<usize>> {
    let lines = if file == "checkpoints" { 9 } else { 1 };
    let ends = (0..bytes.len())
        .filter(|&at| bytes[at] == b'\n')
        .map(|at| at + 1);
    let mut begin = 0;
    let entries: Vec<_> = ends
        .skip(lines - 1)
        .step_by(lines)
        .map(|end| std::mem::replace(&mut begin, end)..end)
        .collect();
    assert_eq!(begin, bytes.len());
    entries
}

fn without(bytes: &[u8], cut: Range<usize>) -> Vec<u8> {
    [&bytes[..cut.start], &bytes[cut.end..]].concat()
}

#[tokio::test]
async fn every_edited_byte_is_found_and_its_record_named() {
    let evidence = Evidence::collect(5).await;
    let records = 2 * 6;
    assert!(evidence.segments().len() > 2);
    let mut first = 0;
    for file in evidence.files() {
        let good = fs::read(evidence.path().join(&file)).unwrap();
        let entries = entries(&file, &good);
        for at in 0..good.len() {
            let mut bytes = good.clone();
            // Another bit each time, so that letters change case, digits change and lines break.
            bytes[at] ^= 1 << (at % 7);
            let done = format!("byte {at} of {file} edited");
            let tampering = place(evidence.verify_with(&file, &bytes), &done);
            if !file.starts_with("log-") {
                continue;
            }
            let edited = first + entries.iter().position(|e| e.contains(&at)).unwrap() as u64;
            let exact = (file.as_str(), edited) == (tampering.file.as_str(), tampering.index);
            // No record follows the last one to tell which of the last two was changed.
            assert!(exact || edited + 2 >= records, "{done}: {tampering:?}");
        }
        if file.starts_with("log-") {
            first += entries.len() as u64;
        }
    }
    assert_eq!(first, records);
}

#[tokio::test]
async fn every_removed_doubled_or_swapped_entry_is_found() {
    let evidence = Evidence::collect(12).await;
    for file in evidence.files() {
        let good = fs::read(evidence.path().join(&file)).unwrap();
        let entries = entries(&file, &good);
        for (n, entry) in entries.iter().enumerate() {
            let done = |what: &str| format!("entry {n} of {file} {what}");
            let removed = without(&good, entry.clone());
            place(evidence.verify_with(&file, &removed), &done("removed"));
            let copy = &good[entry.clone()];
            let doubled = [&good[..entry.end], copy, &good[entry.end..]].concat();
            place(evidence.verify_with(&file, &doubled), &done("doubled"));
            for other in &entries[n + 1..] {
                let moved = [&good[..other.end], copy, &good[other.end..]].concat();
                let moved = without(&moved, entry.clone());
                place(evidence.verify_with(&file, &moved), &done("moved"));
            }
        }
    }
}

#[tokio::test]
async fn every_truncation_of_a_file_and_every_removed_file_is_found() {
    let evidence = Evidence::collect(8).await;
    for file in evidence.files() {
        let path = evidence.path().join(&file);
        let good = fs::read(&path).unwrap();
        let edges = entries(&file, &good).into_iter().map(|e| e.start);
        for length in edges.chain((0..good.len()).step_by(17)) {
            let report = evidence.verify_with(&file, &good[..length]);
            place(report, &format!("{file} cut to {length} bytes"));
        }
        fs::remove_file(&path).unwrap();
        place(evidence.verify(), &format!("{file} removed"));
        fs::write(&path, good).unwrap();
    }
}

#[tokio::test]
async fn missing_records_are_counted() {
    let evidence = Evidence::collect(8).await;
    let file = &evidence.segments()[0];
    let good = fs::read(evidence.path().join(file)).unwrap();
    let entries = entries(file, &good);
    let cut = entries[1].start..entries[2].end;
    let tampering = place(evidence.verify_with(file, &without(&good, cut)), "removal");
    assert_eq!(tampering.index, 1);
    assert_eq!(tampering.what, "records 1 to 2 are missing");
}

/// Writes the records again with a right chain, as someone would who knows the format.
fn rechain(dir: &Path, edit: impl Fn(&mut serde_json::Value)) {
    let mut prev = Hash::ZERO;
    let mut segments: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    segments.sort();
    for path in segments {
        let mut bytes = Vec::new();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            edit(&mut record);
            let old = record["prev"].as_str().unwrap().to_owned();
            let caller = record["caller"].to_string();
            // Keeps the order of the fields: only texts are replaced.
            let before: serde_json::Value = serde_json::from_str(line).unwrap();
            let line = line
                .replace(&before["caller"].to_string(), &caller)
                .replace(&old, &prev.to_string());
            let line = format!("{line}\n");
            prev = Hash::of(line.as_bytes());
            bytes.extend_from_slice(line.as_bytes());
        }
        fs::write(path, bytes).unwrap();
    }
}

#[tokio::test]
async fn a_rewritten_chain_contradicts_the_next_checkpoint() {
    let evidence = Evidence::collect(8).await;
    rechain(evidence.path(), |_| {});
    assert_eq!(evidence.verify().status, Status::Complete);
    rechain(evidence.path(), |record| {
        if record["index"] == 3 {
            record["caller"] = "somebody else".into();
        }
    });
    let tampering = place(evidence.verify(), "rewriting");
    assert_eq!(tampering.file, "checkpoints");
    assert_eq!(
        tampering.what,
        "records 0 to 5 are not those that it covers"
    );
}

/// Cuts a log of two runs back to the state after the first, in all files.
fn cut_to_first_run(dir: &Path, records: u64) {
    let log = strongroom_audit::Log::open(dir, options(), None).unwrap();
    let lines: Vec<_> = log
        .records_from(records)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(lines[0].kind, Kind::Start);
    drop(log);
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !file.starts_with("log-") && !file.starts_with('c') {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let keep = entries(&file, &bytes)
            .into_iter()
            .filter(|e| {
                let text = str::from_utf8(&bytes[e.clone()]).unwrap();
                let number = match file.as_str() {
                    "certificates" => {
                        serde_json::from_str::<serde_json::Value>(text).unwrap()["start"]
                            .as_u64()
                            .unwrap()
                    }
                    "checkpoints" => text.lines().nth(1).unwrap().parse().unwrap(),
                    _ => serde_json::from_str::<serde_json::Value>(text).unwrap()["index"]
                        .as_u64()
                        .map(|index| index + 1)
                        .unwrap(),
                };
                number <= records
            })
            .map(|e| e.end)
            .max()
            .unwrap_or(0);
        match keep {
            0 => fs::remove_file(&path).unwrap(),
            _ => fs::write(&path, &bytes[..keep]).unwrap(),
        }
    }
}

#[tokio::test]
async fn a_log_cut_at_a_checkpoint_in_all_files_is_found_by_the_witness_alone() {
    let evidence = Evidence::collect(8).await;
    cut_to_first_run(evidence.path(), 9);
    let unwitnessed = verify(evidence.path(), &evidence.certifier.trust(None)).unwrap();
    assert_eq!(unwitnessed.status, Status::TailUnproven, "{unwitnessed:?}");
    assert_eq!(unwitnessed.status.exit_code(), 3);
    assert_eq!(unwitnessed.covered_records, 9);
    let tampering = place(evidence.verify(), "cut");
    assert_eq!(tampering.index, 9);
    assert_eq!(
        tampering.what,
        "the log was cut: the witness covers 18 records"
    );
}

#[tokio::test]
async fn an_emptied_folder_is_found_by_the_witness() {
    let evidence = Evidence::collect(2).await;
    for file in evidence.files() {
        fs::remove_file(evidence.path().join(file)).unwrap();
    }
    let tampering = place(evidence.verify(), "emptying");
    assert_eq!(
        tampering.what,
        "the log was cut: the witness covers 6 records"
    );
}

#[tokio::test]
async fn a_fork_with_the_same_certifier_is_found_by_the_witness() {
    let evidence = Evidence::collect(8).await;
    cut_to_first_run(evidence.path(), 9);
    let log = open(evidence.path(), None);
    let checkpointer = start(&log, &evidence.certifier).await;
    for n in 0..20 {
        let _ = log.append(call(n), Share::System).await.unwrap();
    }
    let other = checkpointer.checkpoint(1, 9, [0; 32]).await.unwrap();
    drop(log);
    let its_own = verify(evidence.path(), &evidence.certifier.trust(Some(other))).unwrap();
    assert_eq!(its_own.status, Status::Complete, "{its_own:?}");
    let tampering = place(evidence.verify(), "fork");
    assert_eq!(tampering.what, "the witness's checkpoint is missing");
}

fn read_statement(line: &str) -> Statement {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    Statement {
        origin: line["origin"].as_str().unwrap().parse().unwrap(),
        epoch: line["epoch"].as_u64().unwrap() as u32,
        start: line["start"].as_u64().unwrap(),
        previous: Hash::from_hex(line["previous"].as_str().unwrap()).unwrap(),
        public_key: STANDARD
            .decode(line["key"].as_str().unwrap())
            .unwrap()
            .try_into()
            .unwrap(),
    }
}

fn certificate_line(statement: &Statement, certifier: &Certifier) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let signed = certifier.certify(statement);
    CheckpointCertificate::new(
        statement.clone(),
        signed.spki.clone(),
        signed.signature.clone(),
    )
    .unwrap();
    let Statement {
        origin,
        epoch,
        start,
        previous,
        public_key,
    } = statement;
    format!(
        "{{\"origin\":\"{origin}\",\"epoch\":{epoch},\"start\":{start},\"previous\":\"{previous}\",\
         \"key\":\"{}\",\"certifier\":\"{}\",\"signature\":\"{}\"}}\n",
        STANDARD.encode(public_key),
        STANDARD.encode(signed.spki),
        STANDARD.encode(signed.signature),
    )
}

#[tokio::test]
async fn certificates_that_do_not_belong_are_found() {
    let evidence = Evidence::collect(8).await;
    let good = fs::read_to_string(evidence.path().join("certificates")).unwrap();
    let (first, second) = good.split_once('\n').unwrap();
    let first = format!("{first}\n");
    let statement = read_statement(second);
    let mut other_key = statement.clone();
    other_key.public_key = [7; 32];
    let mut other_log = statement.clone();
    other_log.origin = Origin::new([1; 16], "key-service-0").unwrap();
    let mut other_previous = statement.clone();
    other_previous.previous = Hash::of(b"another checkpoint");
    let mut other_start = statement.clone();
    other_start.start -= 1;
    let mut other_epoch = statement.clone();
    other_epoch.epoch += 1;
    let mut earlier = statement.clone();
    earlier.start = 1;
    earlier.previous = Hash::ZERO;
    let line = |statement| certificate_line(statement, &evidence.certifier);
    for (certificates, what) in [
        (
            format!("{good}{}", line(&other_key)),
            "equivocation: a second key is certified",
        ),
        (
            format!("{good}{}", line(&earlier)),
            "starts before the certificate before it",
        ),
        (
            format!("{first}{}", line(&other_key)),
            "not the start that certificate 1 names",
        ),
        (
            format!("{first}{}", line(&other_log)),
            "is about strongroom.dev/0101",
        ),
        (
            format!("{first}{}", line(&other_previous)),
            "names another checkpoint",
        ),
        (
            format!("{first}{}", line(&other_start)),
            "not the start that certificate 1 names",
        ),
        (
            format!("{first}{}", line(&other_epoch)),
            "its log or epoch is not that of",
        ),
        (
            format!("{first}{}", certificate_line(&statement, &Certifier::new())),
            "signed by another certifier",
        ),
        (format!("{first}{}", line(&statement)), ""),
    ] {
        let report = evidence.verify_with("certificates", certificates.as_bytes());
        if what.is_empty() {
            assert_eq!(report.status, Status::Complete, "{report:?}");
            continue;
        }
        let tampering = place(report, what);
        assert!(tampering.what.contains(what), "{what}: {tampering:?}");
    }
}

#[tokio::test]
async fn a_checkpoint_that_its_key_did_not_sign_is_found_without_a_witness() {
    let evidence = Evidence::collect(2).await;
    let good = fs::read(evidence.path().join("checkpoints")).unwrap();
    let mut forged = good.clone();
    // Within the last signature, far from its key id.
    let at = good.len() - 40;
    forged[at] = if good[at] == b'A' { b'B' } else { b'A' };
    overwrite(&evidence.path().join("checkpoints"), &forged);
    let report = verify(evidence.path(), &evidence.certifier.trust(None)).unwrap();
    assert_eq!(place(report, "forgery").what, "wrong signature");
}

#[tokio::test]
async fn another_log_of_the_same_certifier_is_found() {
    let evidence = Evidence::collect(2).await;
    let mut trust = evidence.trust.clone();
    trust.origin = Some(Origin::new([0xab; 16], "key-service-1").unwrap());
    let tampering = place(verify(evidence.path(), &trust).unwrap(), "another replica");
    assert_eq!(
        (tampering.file.as_str(), tampering.index),
        ("certificates", 0)
    );
    trust.origin = None;
    assert_eq!(
        verify(evidence.path(), &trust).unwrap().status,
        Status::Complete
    );
}

#[tokio::test]
async fn a_missing_change_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let certifier = Certifier::new();
    let log = open(dir.path(), None);
    let checkpointer = start(&log, &certifier).await;
    for seq in [1, 2, 4, 5] {
        let _ = log.append(change(1, seq), Share::System).await.unwrap();
    }
    let last = checkpointer.checkpoint(1, 5, [0; 32]).await.unwrap();
    let trust = certifier.trust(Some(last));
    let tampering = place(verify(dir.path(), &trust).unwrap(), "gap");
    assert_eq!(tampering.what, "change 3 of epoch 1 is missing");

    let _ = log.append(change(1, 3), Share::System).await.unwrap();
    assert_eq!(verify(dir.path(), &trust).unwrap().status, Status::Complete);
}

#[tokio::test]
async fn a_line_cut_by_a_crash_is_no_tampering() {
    let evidence = Evidence::collect(4).await;
    let file = evidence.segments().pop().unwrap();
    let good = fs::read(evidence.path().join(&file)).unwrap();
    let report = evidence.verify_with(&file, &[&good[..], b"{\"index\":10,\"ti"].concat());
    assert_eq!(report.status, Status::Complete, "{report:?}");
    assert_eq!(report.torn_bytes, 15);
}
