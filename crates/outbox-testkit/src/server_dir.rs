//! Where the files of a test server are: in memory where there is room, because half the cost of a test
//! was syncing what is thrown away with it. The server's settings stay durable, and no test loses by it:
//! tests end processes, never the kernel, and what the kernel holds outlives a process on either medium.

use std::env;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use crate::TestkitError;
use crate::error::io_context;

/// A file system in memory on every Linux; in a container it may be a few megabytes.
const IN_MEMORY: &str = "/dev/shm";

/// Many times what the servers of a whole test run hold at once.
const ROOM_BYTES: u64 = 4 << 30;

/// Makes the directory of one server: on `disk` if one is named, where `TMPDIR` says if it is set, else in memory if
/// that has room.
pub(crate) fn create(disk: Option<&Path>) -> Result<PathBuf, TestkitError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("obx-");
    let in_memory = Path::new(IN_MEMORY);
    let made = if let Some(disk) = disk {
        builder.tempdir_in(disk)
    } else if env::var_os("TMPDIR").is_none() && free_bytes(in_memory) >= ROOM_BYTES {
        // It may still be closed to this account.
        builder.tempdir_in(in_memory).or_else(|_| builder.tempdir())
    } else {
        builder.tempdir()
    };
    Ok(made.map_err(io_context("make the directory of a test server"))?.keep())
}

/// What is free in a directory's file system; none if there is no such directory.
fn free_bytes(dir: &Path) -> u64 {
    statvfs(dir).map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_does_not_exist_has_no_room() {
        assert_eq!(free_bytes(Path::new("/does/not/exist")), 0);
        assert!(free_bytes(Path::new("/")) > 0);
    }
}
