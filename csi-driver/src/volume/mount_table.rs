//! The kernel's list of mounts, `/proc/self/mountinfo`, and which of them are ours.

use std::{fs, io};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// What our mounts are called, by which they are found after a restart.
pub(super) const SOURCE: &str = "strongroom";
pub(super) const FILE_SYSTEM: &str = "tmpfs";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    pub(super) id: u64,
    /// Where it is, as the process sees it.
    pub point: String,
    file_system: String,
    source: String,
    /// Options of the file system itself, which are the same wherever it is mounted.
    pub(super) options: Vec<String>,
}

impl Mounted {
    /// Whether it is a volume that this driver, or the one before it, has mounted.
    pub fn is_ours(&self) -> bool {
        self.file_system == FILE_SYSTEM && self.source == SOURCE
    }
}

/// All mounts that the process sees.
#[derive(Clone, Debug)]
pub struct MountTable(Vec<Mounted>);

impl MountTable {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be read.
    pub fn load() -> io::Result<Self> {
        fs::read_to_string(MOUNTINFO).map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(parse_line).collect())
    }

    /// The mounts that are ours.
    pub fn ours(&self) -> impl Iterator<Item = &Mounted> {
        self.0.iter().filter(|mounted| mounted.is_ours())
    }

    pub(super) fn find(&self, id: u64) -> Option<&Mounted> {
        self.0.iter().find(|mounted| mounted.id == id)
    }
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/sda rw,errors=continue`; what stands before the dash varies in
/// number.
fn parse_line(line: &str) -> Option<Mounted> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ');
    let id = mount.next()?.parse().ok()?;
    let point = unescape(mount.nth(3)?);
    let mut words = file_system.split(' ');
    Some(Mounted {
        id,
        point,
        file_system: words.next()?.to_owned(),
        source: unescape(words.next()?),
        options: words.next()?.split(',').map(str::to_owned).collect(),
    })
}

/// The kernel writes blanks and backslashes as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\').then(|| after.first_chunk::<3>()).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
90 22 0:50 / /var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/s/mount rw,nosuid,nodev,noexec,relatime shared:7 master:3 - tmpfs strongroom rw,size=8192k,nr_inodes=4096,mode=755,noswap
91 22 0:51 / /a\\040b rw - tmpfs strong\\134room rw
92 22 0:52 / /c rw - ext4 strongroom rw
93 22 broken
";

    #[test]
    fn mounts_are_found_by_kind_and_source() {
        let table = MountTable::parse(TABLE);
        let ours: Vec<u64> = table.ours().map(|mounted| mounted.id).collect();
        assert_eq!(ours, [90]);
        let mounted = table.find(90).unwrap();
        assert!(mounted.point.ends_with("/s/mount"));
        assert!(mounted.options.contains(&"noswap".to_owned()));
    }

    #[test]
    fn escaped_bytes_are_read() {
        let table = MountTable::parse(TABLE);
        let mounted = table.find(91).unwrap();
        assert_eq!(
            (mounted.point.as_str(), mounted.source.as_str()),
            ("/a b", "strong\\room")
        );
        assert_eq!(unescape("a\\04"), "a\\04");
    }

    #[test]
    fn the_kernels_own_table_is_read() {
        let table = MountTable::load().unwrap();
        assert!(table.0.iter().any(|mounted| mounted.point == "/"));
    }
}
