//! What is mounted where, and that it goes away again.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    process::Command,
};

use strongroom_csi_driver::volume::{
    MountError, PublishedError, Room, SwapPolicy, Tmpfs, self_test, write,
};

use crate::support::{
    Kubelet, TMPFS, UID, file, files, in_own_mounts, listing, mounts_below, place_of,
};

#[test]
fn volume_is_hardened_as_the_kernel_itself_says() {
    in_own_mounts(|| {
        let kubelet = Kubelet::new();
        let mount = kubelet.publish(&files(&[("db/password", "old")]));
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        let line = table
            .lines()
            .find(|line| line.starts_with("strongroom "))
            .unwrap();
        let options: Vec<&str> = line.split(' ').nth(3).unwrap().split(',').collect();
        for option in [
            "nosuid",
            "nodev",
            "noexec",
            "noswap",
            "size=1024k",
            "nr_inodes=256",
            "mode=755",
        ] {
            assert!(options.contains(&option), "{option} is not in {options:?}");
        }

        let tool = mount.join("tool");
        fs::copy("/bin/true", &tool).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Command::new(&tool).status().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = fs::write(mount.join("large"), vec![0; 2 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    });
}

#[test]
fn files_have_mode_owner_and_group_whatever_the_umask() {
    in_own_mounts(|| {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
        let kubelet = Kubelet::new();
        let mut wanted = files(&[("db/password", "old")]);
        wanted.add("key", file(0o400, 1000, 0, "k")).unwrap();
        wanted.add("a/b/c", file(0o666, 7, 8, "")).unwrap();
        let mount = kubelet.publish(&wanted);
        let data = mount.join("..data");
        assert_eq!(place_of(&mount), (0o755, 0, 0));
        assert_eq!(place_of(&data.join("db/password")), (0o440, 0, 1000));
        assert_eq!(place_of(&data.join("key")), (0o400, 1000, 0));
        assert_eq!(place_of(&data.join("a/b/c")), (0o666, 7, 8));
        assert_eq!(place_of(&data.join("a/b")), (0o755, 0, 0));
        assert_eq!(
            fs::read_to_string(mount.join("db/password")).unwrap(),
            "old"
        );
        assert_eq!(listing(&mount), ["..1", "..data", "a", "db", "key"]);
    });
}

#[test]
fn published_volume_is_found_and_a_thousand_looks_mount_nothing() {
    in_own_mounts(|| {
        let kubelet = Kubelet::new();
        assert!(kubelet.place().published().unwrap().is_none());
        kubelet.publish(&files(&[("a", "1")]));
        for _ in 0..1000 {
            let root = kubelet.place().published().unwrap().unwrap();
            write(root, &files(&[("a", "1")])).unwrap();
        }
        assert_eq!(mounts_below(kubelet.folder.path()), 1);
        assert_eq!(
            kubelet.pods.published().unwrap(),
            [kubelet.target("secrets")]
        );
    });
}

#[test]
fn option_that_was_dropped_is_named_and_nothing_is_left() {
    in_own_mounts(|| {
        let kubelet = Kubelet::new();
        let small = Tmpfs {
            room: Room {
                bytes: 4096 * 4,
                inodes: 64,
            },
            ..TMPFS
        };
        let swappable = Tmpfs {
            noswap: false,
            ..TMPFS
        };
        for (made, dropped) in [(small, "size"), (swappable, "noswap")] {
            let outcome = kubelet.place().publish(made.create().unwrap(), &TMPFS);
            assert!(matches!(outcome, Err(MountError::Dropped(name)) if name == dropped));
            assert_eq!(mounts_below(kubelet.folder.path()), 0);
            assert!(!kubelet.mount("secrets").exists());
        }
    });
}

#[test]
fn self_test_passes_here_and_leaves_nothing() {
    in_own_mounts(|| {
        let folder = tempfile::tempdir().unwrap();
        let made = self_test(folder.path(), TMPFS.room, SwapPolicy::Refuse).unwrap();
        assert_eq!(made, TMPFS);
        assert_eq!(mounts_below(folder.path()), 0);
        let uneven = Room {
            bytes: 4097,
            inodes: 64,
        };
        let error = self_test(folder.path(), uneven, SwapPolicy::Refuse).unwrap_err();
        assert!(
            format!("{error:?}").contains("Dropped(\"size\")"),
            "{error:?}"
        );
        assert_eq!(mounts_below(folder.path()), 0);
    });
}

#[test]
fn removal_is_fine_whatever_is_there() {
    in_own_mounts(|| {
        let kubelet = Kubelet::new();
        let (place, mount) = (kubelet.place(), kubelet.mount("secrets"));
        // Nothing.
        place.remove().unwrap();
        // A mount point without a mount, with leftovers.
        fs::create_dir_all(mount.join("a/b")).unwrap();
        fs::write(mount.join("a/b/c"), "x").unwrap();
        place.remove().unwrap();
        assert!(!mount.exists());
        // Several mounts on one another.
        for _ in 0..3 {
            fs::create_dir_all(&mount).unwrap();
            rustix::mount::mount(
                "x",
                &mount,
                "tmpfs",
                rustix::mount::MountFlags::empty(),
                None,
            )
            .unwrap();
        }
        place.remove().unwrap();
        assert!(!mount.exists());
        // A volume in which a file is open.
        kubelet.publish(&files(&[("a", "1")]));
        let open = fs::File::open(mount.join("a")).unwrap();
        place.remove().unwrap();
        place.remove().unwrap();
        assert!(!mount.exists());
        assert_eq!(open.metadata().unwrap().size(), 1);
        assert_eq!(mounts_below(kubelet.folder.path()), 0);
    });
}

#[test]
fn links_are_no_way_out() {
    in_own_mounts(|| {
        let kubelet = Kubelet::new();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("precious"), "x").unwrap();
        let mount = kubelet.mount("secrets");

        symlink(elsewhere.path(), &mount).unwrap();
        assert!(kubelet.place().published().unwrap().is_none());
        let volume = TMPFS.create().unwrap();
        assert!(kubelet.place().publish(volume, &TMPFS).is_err());
        assert_eq!(mounts_below(elsewhere.path()), 0);
        kubelet.place().remove().unwrap();
        assert!(elsewhere.path().join("precious").exists());

        let pod = kubelet.folder.path().join("pods").join(UID);
        fs::remove_dir_all(pod.join("volumes")).unwrap();
        symlink(elsewhere.path(), pod.join("volumes")).unwrap();
        assert!(kubelet.pods.place(&kubelet.target("secrets")).is_err());
        fs::remove_file(pod.join("volumes")).unwrap();
        assert!(
            kubelet
                .pods
                .place(&kubelet.target("secrets"))
                .unwrap()
                .is_none()
        );
    });
}

#[test]
fn mount_of_somebody_else_is_not_written() {
    in_own_mounts(|| {
        let kubelet = Kubelet::new();
        let mount = kubelet.mount("secrets");
        fs::create_dir(&mount).unwrap();
        rustix::mount::mount(
            "x",
            &mount,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .unwrap();
        let found = kubelet.place().published();
        assert!(matches!(found, Err(PublishedError::Foreign)), "{found:?}");
        assert_eq!(kubelet.pods.published().unwrap(), []);
    });
}
