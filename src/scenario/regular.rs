//! Files that a person names, opened for reading: regular ones only. A pipe would be waited for without an end, a device may have none.

use std::fs::{self, File, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// Opens a regular file; the error says what else it is.
pub fn open(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() {
        return Err(io::Error::other(format!("it is {}, not a regular file", name_of(kind))));
    }
    File::open(path)
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}
