//! Where files come from.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use crate::limits::FILE_BYTES_MAX;

/// What files are read from.
pub trait AccessFiles {
    /// The bytes of a file.
    ///
    /// # Errors
    /// When it cannot be read, or has more than [`FILE_BYTES_MAX`].
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// The names of the files in a directory.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
}

/// The files of this machine.
#[derive(Clone, Copy, Debug)]
pub struct DiskFiles;

impl AccessFiles for DiskFiles {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        // Opening a pipe would wait for its other end.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a plain file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")));
        }
        Ok(bytes)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if fs::metadata(entry.path())?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }
}

/// A path as it is meant in a file: from the folder of that file.
pub(crate) fn beside(file: &str, path: &str) -> String {
    match Path::new(file).parent() {
        Some(folder) => folder.join(path).to_string_lossy().into_owned(),
        None => path.to_owned(),
    }
}
