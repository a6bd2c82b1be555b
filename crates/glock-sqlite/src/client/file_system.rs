//! Whether a file system is one that other machines may share.

/// Names and numbers of the file systems that other machines may share, or of which that cannot be told.
///
/// FUSE is among them: behind it may be a share (`sshfs`, `GlusterFS`, virtiofs), and whether it keeps its
/// pages and locks coherent between processes is up to its daemon.
#[cfg(target_os = "linux")]
const SHARED: [(u32, &str); 17] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x7375_7245, "Coda"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x564c, "NCP"),
    (0x786f_4256, "a folder shared by VirtualBox"),
    (0xbacb_acbc, "a folder shared by VMware"),
];

/// The name of the file system if other machines may share it.
#[cfg(target_os = "linux")]
pub(crate) fn shared(path: &std::path::Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(path).ok()?;
    // Its type differs between processors; the number has 32 bits.
    let magic = u32::try_from(i128::from(found.f_type) & 0xffff_ffff).ok()?;
    name(magic)
}

/// Elsewhere than on Linux, there is no look.
#[cfg(not(target_os = "linux"))]
pub(crate) fn shared(_path: &std::path::Path) -> Option<&'static str> {
    None
}

#[cfg(target_os = "linux")]
fn name(magic: u32) -> Option<&'static str> {
    SHARED.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn shares_are_known_by_their_numbers_and_others_pass() {
        for (magic, expected) in [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0x6573_5546, "FUSE")] {
            assert_eq!(name(magic), Some(expected));
        }
        let local = [0xef53, 0x9123_683e, 0x5846_5342, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1];
        assert!(local.iter().all(|magic| name(*magic).is_none()), "ext4, Btrfs, XFS, tmpfs, ..");
        assert_eq!(shared(Path::new("/proc")), None);
        assert_eq!(shared(Path::new("/does not exist")), None);
    }
}
