//! `fakepg`: a PostgreSQL of canned answers. Ends when its standard input does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use tokio::net::{TcpSocket, UnixListener};
use trunkline_bench::canned::{Settings, Shape, serve, serve_socket};
use trunkline_bench::tls::acceptor;

/// Connections that may wait to be accepted: a storm of logins must not be what is measured.
const BACKLOG: u32 = 4096;

/// A PostgreSQL of canned answers
#[derive(Parser)]
struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Directory for a Unix socket beside it, named by the same port
    #[arg(long)]
    socket_dir: Option<PathBuf>,
    /// Certificate of clients' TLS, if they want it; the Unix socket has none
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
    /// Rows of an answer
    #[arg(long, default_value_t = 1)]
    rows: usize,
    /// Bytes of the value in each row
    #[arg(long, default_value_t = 1)]
    row_bytes: usize,
    /// Microseconds before each answer; the timer rounds up to a millisecond
    #[arg(long, default_value_t = 0)]
    delay_us: u64,
    /// Write answers in pieces of so many bytes, to split headers; 0 = whole
    #[arg(long, default_value_t = 0)]
    chunk: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let settings = Settings {
        shape: Shape { rows: args.rows, row_bytes: args.row_bytes },
        delay: Duration::from_micros(args.delay_us),
        piece_bytes: args.chunk,
    };
    let tls = args.certificate.as_deref().zip(args.key.as_deref());
    let tls = tls.map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(args.listen)?;
    let listener = socket.listen(BACKLOG)?;
    let port = listener.local_addr()?.port();
    if let Some(directory) = args.socket_dir {
        let listener = UnixListener::bind(directory.join(format!(".s.PGSQL.{port}")))?;
        tokio::spawn(serve_socket(listener, settings));
    }
    println!("{port}");
    std::thread::spawn(|| {
        // Whoever started us holds the other end: when it is gone, so are we.
        let _ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    Ok(serve(listener, settings, tls).await?)
}
