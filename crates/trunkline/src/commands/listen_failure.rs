//! Why an address cannot be listened on, and what to do about it.

use std::io::ErrorKind;
use std::path::Path;

use trunkline_control::ListenError;
use trunkline_topology::Address;

use crate::Failure;

/// The first port that every user may listen on, unless net.ipv4.ip_unprivileged_port_start says otherwise.
/// Source: Linux, include/net/sock.h, `PROT_SOCK`.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// The failure with its hint.
pub(super) fn listen_failure(error: ListenError) -> Failure {
    let hint = hint(&error);
    Failure::new(error.to_string()).hint(hint)
}

/// What the kernel's word means for this address.
pub(super) fn hint(error: &ListenError) -> String {
    let ListenError { address, source, .. } = error;
    let address = match address {
        Address::Tcp(address) => address,
        Address::Unix(path) => return hint_for_socket(path, source.kind()),
    };
    match source.kind() {
        ErrorKind::AddrInUse => format!(
            "Another program listens there, such as PostgreSQL or another Trunkline: as root, `ss -ltnp 'sport = :{}'` shows \
             which. Stop it, or choose another port.",
            address.port()
        ),
        ErrorKind::AddrNotAvailable => format!(
            "{} is no address of this machine; `ip address` lists those. 0.0.0.0 or [::] is all of them.",
            address.ip()
        ),
        ErrorKind::PermissionDenied if address.port() < FIRST_UNPRIVILEGED_PORT => format!(
            "Ports below {FIRST_UNPRIVILEGED_PORT} need a privilege: choose another one, or give the program \
             CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)."
        ),
        ErrorKind::PermissionDenied => {
            "The system forbids this address: look at the rules of SELinux or AppArmor.".to_owned()
        }
        _ => "Choose another address.".to_owned(),
    }
}

/// The same for a Unix socket.
fn hint_for_socket(path: &Path, error: ErrorKind) -> String {
    let directory = path.parent().unwrap_or(path).display();
    match error {
        ErrorKind::AddrInUse => {
            "Another program listens there, such as PostgreSQL or another Trunkline: stop it, or choose another port.".to_owned()
        }
        ErrorKind::NotFound => {
            format!("Create the directory {directory}, owned by the user that the proxy runs as.")
        }
        ErrorKind::AlreadyExists => format!("Move the file {} away, or choose another directory.", path.display()),
        ErrorKind::PermissionDenied => {
            format!("Let the user that the proxy runs as write to {directory}, or choose another directory.")
        }
        _ => "Choose another directory.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn each_error_says_what_it_is_and_what_to_do() {
        for (address, kind, said) in [
            ("127.0.0.1:5434", ErrorKind::AddrInUse, "`ss -ltnp 'sport = :5434'`"),
            ("192.0.2.1:5434", ErrorKind::AddrNotAvailable, "192.0.2.1 is no address of this machine"),
            ("127.0.0.1:1023", ErrorKind::PermissionDenied, "Ports below 1024"),
            ("127.0.0.1:1024", ErrorKind::PermissionDenied, "SELinux"),
        ] {
            let at: SocketAddr = address.parse().expect("an address");
            let error =
                ListenError { name: "reads".to_owned(), address: at.into(), source: io::Error::from(kind) };
            let text = listen_failure(error).to_string();
            assert!(text.contains(&format!("could not listen on {address} (reads): ")), "{text}");
            assert!(text.contains("HINT: ") && text.contains(said), "{text}");
        }
    }
}
