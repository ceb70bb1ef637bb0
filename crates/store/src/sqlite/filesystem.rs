//! Which file systems can keep what was acknowledged, by the numbers of statfs(2).
//!
//! SQLite's locks and syncs are only as good as the file system's; a store that vanishes with its container loses keys.

use std::fmt;

/// A kind of file system on which a store is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// Its locks and syncs depend on a server: never accepted.
    Network(&'static str),
    /// It may vanish with the container or the machine's memory: accepted only by an explicit option.
    Ephemeral(&'static str),
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(name) => write!(f, "{name}, a network file system"),
            Self::Ephemeral(name) => write!(f, "{name}, which may not outlive the container"),
        }
    }
}

/// Says what is wrong with a file system, if anything.
pub(super) fn unfit(kind: rustix::fs::FsWord) -> Option<Filesystem> {
    use Filesystem::{Ephemeral, Network};
    // The number has 32 bits on every architecture; some sign-extend it.
    let found = match kind as u32 {
        0x6969 => Network("NFS"),
        0x517B | 0xFE53_4D42 | 0xFF53_4D42 => Network("SMB"),
        0x0102_1997 => Network("9P"),
        0x5346_414F | 0x6B41_4653 => Network("AFS"),
        0x00C3_6400 => Network("Ceph"),
        0x0BD0_0BD0 => Network("Lustre"),
        0x0116_1970 => Network("GFS2"),
        0x7461_636F => Network("OCFS2"),
        0x4750_4653 => Network("GPFS"),
        0x7375_7245 => Network("Coda"),
        0x564C => Network("NCP"),
        0x786F_4256 => Network("a VirtualBox shared folder"),
        0x794C_7630 => Ephemeral("overlay"),
        0x0102_1994 => Ephemeral("tmpfs"),
        0x8584_58F6 => Ephemeral("ramfs"),
        0x6573_5546 => Ephemeral("FUSE"),
        _ => return None,
    };
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_ephemeral_and_local_ones() {
        assert_eq!(unfit(0x6969), Some(Filesystem::Network("NFS")));
        assert_eq!(unfit(0xFF53_4D42), Some(Filesystem::Network("SMB")));
        assert_eq!(unfit(0x794C_7630), Some(Filesystem::Ephemeral("overlay")));
        assert_eq!(unfit(0xEF53), None);
    }
}
