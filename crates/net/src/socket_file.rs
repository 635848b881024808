//! Listening on a Unix socket: its file is made, replaced if a dead process left it, and removed.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::limits::LISTEN_BACKLOG;

/// The file of a listening socket, removed when this is dropped, unless another process has replaced it since.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Opened as a mere place: while it is, no other file gets its inode.
    own: File,
}

impl SocketFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes who may connect.
    ///
    /// # Errors
    /// When the file has been replaced, or what the kernel says.
    pub fn permit(&self, mode: u32) -> io::Result<()> {
        if !self.is_there()? {
            return Err(io::Error::new(io::ErrorKind::NotFound, "another process has replaced it"));
        }
        std::fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }

    fn of(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let own = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
        Ok(SocketFile { path: path.to_owned(), own })
    }

    /// Whether it is still this file that is at its path.
    fn is_there(&self) -> io::Result<bool> {
        let (own, found) = (self.own.metadata()?, std::fs::symlink_metadata(&self.path)?);
        Ok((own.dev(), own.ino()) == (found.dev(), found.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A process that drains listens no more: its successor may have its own socket there already.
        let removed = match self.is_there() {
            Ok(true) => std::fs::remove_file(&self.path),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::debug!(%error, path = %self.path.display(), "could not remove the file of a socket");
        }
    }
}

/// Listens at `path`, whose file nobody beyond `mode` may ever use; a socket that a dead process left there is replaced.
///
/// # Errors
/// When another process listens there, a file is there that is no socket, or what the kernel says.
pub fn bind(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let address = SockAddr::unix(path)?;
    if is_answered(&address)? {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
    }
    remove_socket(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The file has the socket's mode from the moment it is made, less the umask.
    // Source: Linux, net/unix/af_unix.c, `unix_bind_bsd`.
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(Permissions::from_mode(mode))?;
    let socket = Socket::from(OwnedFd::from(file));
    socket.bind(&address)?;
    let file = SocketFile::of(path)?;
    file.permit(mode)?;
    socket.listen(LISTEN_BACKLOG)?;
    // Until now another process that starts would find nobody listening, and have replaced it.
    if !file.is_there().unwrap_or(false) {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process has replaced it"));
    }
    socket.set_nonblocking(true)?;
    Ok((OwnedFd::from(socket).into(), file))
}

/// Whether somebody listens there, with room for one more connection or without.
fn is_answered(address: &SockAddr) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(address) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Ok(true),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
            _ => Err(error),
        },
    }
}

/// Removes the socket at `path`, if there is one. Whatever else is there is not ours to remove.
fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is there already that is no socket"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: u32 = 0o600;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_left_by_a_dead_process_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let (first, file) = bind(&path, 0o777).expect("free");
        assert_eq!(mode(&path), 0o777, "whatever the umask");
        let error = bind(&path, PRIVATE).expect_err("somebody listens");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        std::mem::forget(file);
        let (_second, file) = bind(&path, PRIVATE).expect("nobody listens any more");
        assert_eq!(mode(&path), PRIVATE);
        drop(file);
        assert!(!path.exists(), "its file goes with it");
    }

    #[test]
    fn a_socket_of_a_successor_outlives_the_one_it_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let (first, file) = bind(&path, PRIVATE).expect("free");
        drop(first);
        let (_second, successor) = bind(&path, PRIVATE).expect("nobody listens any more");
        file.permit(0o777).expect_err("it is another's");
        drop(file);
        assert_eq!(mode(&path), PRIVATE);
        drop(successor);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("precious");
        std::fs::write(&path, "data").expect("writable");
        bind(&path, PRIVATE).expect_err("a file is there");
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "data");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("writable");
        bind(&link, PRIVATE).expect_err("a symbolic link is no socket");
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "data");
    }
}
