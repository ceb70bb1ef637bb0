//! What a reader sees while files are replaced, and after the writer was killed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::fs::{Mode, OFlags, inotify, openat};
use strongroom_csi_driver::volume::{FileSet, Written, write};

use crate::support::{Kubelet, file, files, in_own_mounts, listing};

fn swap(kubelet: &Kubelet, wanted: &FileSet) -> Written {
    let root = kubelet.place().published().unwrap().unwrap();
    write(root, wanted).unwrap()
}

/// A version that says which it is in each of its files.
fn version(number: u32) -> FileSet {
    let text = format!("version {number}");
    files(&[("db/user", &text), ("db/password", &text), ("key", &text)])
}

#[test]
fn same_files_are_left_alone_and_any_difference_is_a_swap() {
    in_own_mounts(|| {
        let kubelet = Kubelet::new();
        let mount = kubelet.publish(&version(1));
        assert_eq!(swap(&kubelet, &version(1)), Written::Same);
        assert_eq!(swap(&kubelet, &version(2)), Written::Swapped);
        assert_eq!(listing(&mount), ["..2", "..data", "db", "key"]);

        let with = |mode, uid, gid, content| {
            let mut files = FileSet::default();
            files.add("a", file(mode, uid, gid, content)).unwrap();
            files
        };
        assert_eq!(swap(&kubelet, &with(0o440, 0, 0, "x")), Written::Swapped);
        assert_eq!(listing(&mount), ["..3", "..data", "a"]);
        for other in [
            with(0o400, 0, 0, "x"),
            with(0o400, 1, 0, "x"),
            with(0o400, 1, 1, "x"),
            with(0o400, 1, 1, "xy"),
            with(0o400, 1, 1, ""),
        ] {
            assert_eq!(swap(&kubelet, &other), Written::Swapped);
            assert_eq!(swap(&kubelet, &other), Written::Same);
        }
    });
}

#[test]
fn whatever_an_unfinished_write_left_is_repaired() {
    in_own_mounts(|| {
        let kubelet = Kubelet::new();
        let mount = kubelet.publish(&version(1));
        let damage: [&dyn Fn(); 8] = [
            &|| symlink("..7", mount.join("..data_tmp")).unwrap(),
            &|| fs::create_dir_all(mount.join("..2/db")).unwrap(),
            &|| fs::write(mount.join("..9"), "half").unwrap(),
            &|| fs::remove_file(mount.join("db")).unwrap(),
            &|| {
                fs::remove_file(mount.join("key")).unwrap();
                symlink("/etc/passwd", mount.join("key")).unwrap();
            },
            &|| fs::write(mount.join("stray"), "x").unwrap(),
            &|| fs::create_dir_all(mount.join("..data_tmp/a")).unwrap(),
            &|| symlink("..1/db", mount.join("old")).unwrap(),
        ];
        for damage in damage {
            damage();
            assert_eq!(swap(&kubelet, &version(1)), Written::Same);
            assert_eq!(listing(&mount), ["..1", "..data", "db", "key"]);
            assert_eq!(
                fs::read_to_string(mount.join("db/user")).unwrap(),
                "version 1"
            );
            assert_eq!(fs::read_to_string(mount.join("key")).unwrap(), "version 1");
        }

        let loss: [&dyn Fn(&Path); 5] = [
            &|_| fs::remove_file(mount.join("..data")).unwrap(),
            &|data| fs::remove_dir_all(data).unwrap(),
            &|data| fs::write(data.join("db/user"), "versi").unwrap(),
            &|data| fs::write(data.join("db/more"), "x").unwrap(),
            &|_| {
                fs::remove_file(mount.join("..data")).unwrap();
                fs::create_dir(mount.join("..data")).unwrap();
            },
        ];
        for loss in loss {
            loss(&fs::canonicalize(mount.join("..data")).unwrap());
            assert_eq!(swap(&kubelet, &version(1)), Written::Swapped);
            assert_eq!(
                fs::read_to_string(mount.join("db/user")).unwrap(),
                "version 1"
            );
            assert_eq!(listing(&mount).len(), 4, "{:?}", listing(&mount));
        }
        let folder = fs::canonicalize(mount.join("..data/db")).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(swap(&kubelet, &version(1)), Written::Swapped);
    });
}

#[test]
fn watcher_of_data_is_told_once_for_each_swap() {
    in_own_mounts(|| {
        let kubelet = Kubelet::new();
        let mount = kubelet.publish(&version(1));
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, &mount, inotify::WatchFlags::MOVED_TO).unwrap();
        // Read after each swap, since the kernel joins events that are alike.
        for (number, expected) in [(1, 0), (2, 1), (2, 0), (3, 1)] {
            swap(&kubelet, &version(number));
            let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(&watch, &mut buffer);
            let mut names = Vec::new();
            while let Ok(event) = reader.next() {
                names.push(event.file_name().unwrap().to_str().unwrap().to_owned());
            }
            assert_eq!(names, vec!["..data"; expected]);
        }
    });
}

/// Reads all files through one resolution of `..data`; none when that version went away in between.
fn read_once(mount: &Path) -> Option<BTreeSet<String>> {
    let folder = File::open(mount.join("..data")).ok()?;
    let mut seen = BTreeSet::new();
    for path in ["db/user", "db/password", "key"] {
        let opened = openat(&folder, path, OFlags::RDONLY, Mode::empty()).ok()?;
        let mut text = String::new();
        File::from(opened).read_to_string(&mut text).unwrap();
        seen.insert(text);
    }
    Some(seen)
}

#[test]
fn reader_that_resolves_data_once_never_sees_two_versions() {
    in_own_mounts(|| {
        let kubelet = Kubelet::new();
        let mount = kubelet.publish(&version(0));
        let done = AtomicBool::new(false);
        let whole = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut whole = 0;
                while !done.load(Ordering::Relaxed) {
                    // By path there is always something, and all of it.
                    let text = fs::read_to_string(mount.join("key"));
                    if let Ok(text) = &text {
                        assert!(text.starts_with("version "), "{text:?}");
                    }
                    if let Some(seen) = read_once(&mount) {
                        assert_eq!(seen.len(), 1, "{seen:?}");
                        whole += 1;
                    }
                }
                whole
            });
            for number in 1..3000 {
                swap(&kubelet, &version(number));
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert!(whole > 0, "the reader has read");
    });
}

/// The places at which the writer can be killed.
#[cfg(feature = "fault-points")]
const STEPS: [&str; 7] = [
    "csi.writer.folder=kill",
    "csi.writer.file=kill",
    "csi.writer.file=2*off->kill",
    "csi.writer.prepared=kill",
    "csi.writer.shown=kill",
    "csi.writer.linked=kill",
    "csi.writer.done=kill",
];

#[cfg(feature = "fault-points")]
#[test]
fn writer_that_is_killed_anywhere_leaves_old_or_new_and_the_next_repairs() {
    use std::{env, os::unix::process::ExitStatusExt};

    use crate::support::once_more;

    const WRITE: &str = "STRONGROOM_TEST_WRITE_TO";
    let next = || {
        let mut files = version(2);
        files.add("more", file(0o440, 0, 0, "version 2")).unwrap();
        files
    };
    in_own_mounts(move || {
        if let Some(root) = env::var_os(WRITE) {
            strongroom_runtime::prepare().unwrap();
            write(File::open(root).unwrap(), &next()).unwrap();
            panic!("the writer was not killed");
        }
        for step in STEPS {
            let kubelet = Kubelet::new();
            let mount = kubelet.publish(&version(1));
            // As this closure, whose name is the test's.
            let mut writer = once_more(&|| ());
            let killed = writer
                .env("FAILPOINTS", step)
                .env(WRITE, &mount)
                .output()
                .unwrap();
            assert_eq!(killed.status.signal(), Some(9), "{step}: {killed:?}");

            let seen = read_once(&mount).expect("one version is whole");
            let shown = step.split(['.', '=']).nth(2).unwrap();
            let is_new = ["shown", "linked", "done"].contains(&shown);
            let expected = if is_new { "version 2" } else { "version 1" };
            assert_eq!(seen, [expected.to_owned()].into(), "{step}");

            swap(&kubelet, &next());
            let names = listing(&mount);
            assert_eq!(names[1..], ["..data", "db", "key", "more"], "{step}");
            assert_eq!(read_once(&mount).unwrap(), ["version 2".to_owned()].into());
            // The one before the repair is as good: what was killed may also be repaired by the old files.
            swap(&kubelet, &version(1));
            assert_eq!(listing(&mount)[1..], ["..data", "db", "key"], "{step}");
            kubelet.place().remove().unwrap();
        }
    });
}
