//! An HTTP server that answers as a test wants it to, well or badly.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::task::AbortOnDropHandle;
use trunkline_discovery::http::HttpUrl;

/// What is done with a request.
pub(crate) enum Reply {
    /// A status, such as `200 OK`, and a whole body.
    Whole(&'static str, String),
    /// These bytes and the end.
    Raw(Vec<u8>),
    /// These bytes, again and again.
    Endless(Vec<u8>),
    /// Nothing, for ever.
    Silence,
    /// A body in pieces, for as long as the test sends them.
    Stream(UnboundedReceiver<Piece>),
}

/// What a stream goes on with. When no more can come it is cut.
pub(crate) enum Piece {
    /// Bytes.
    Bytes(String),
    /// The end, as it should be.
    End,
}

/// One server, until it is dropped.
pub(crate) struct Fake {
    pub(crate) url: HttpUrl,
    /// The heads of all requests.
    heads: Arc<Mutex<Vec<String>>>,
    /// Says when a connection has ended that was not ended from here.
    pub(crate) left: UnboundedReceiver<()>,
    _task: AbortOnDropHandle<()>,
}

type Handler = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

impl Fake {
    /// Answers each request as `handler` says, which gets its head.
    pub(crate) async fn start(handler: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, "127.0.0.1", Arc::new(handler)).await
    }

    /// The same over TLS, as `localhost`.
    pub(crate) async fn start_tls(
        config: Arc<ServerConfig>,
        handler: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Some(TlsAcceptor::from(config)), "localhost", Arc::new(handler)).await
    }

    async fn serve(tls: Option<TlsAcceptor>, host: &str, handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{host}:{port}").parse().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (left_sender, left) = unbounded_channel();
        let seen = Arc::clone(&heads);
        let accepting = async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, handler, seen, left) =
                    (tls.clone(), Arc::clone(&handler), Arc::clone(&seen), left_sender.clone());
                connections.spawn(async move {
                    match tls {
                        None => answer(stream, handler, seen, left).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, handler, seen, left).await;
                            }
                        }
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        };
        Self { url, heads, left, _task: AbortOnDropHandle::new(tokio::spawn(accepting)) }
    }

    /// The heads of all requests up to now.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    handler: Handler,
    seen: Arc<Mutex<Vec<String>>>,
    left: UnboundedSender<()>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    seen.lock().unwrap().push(head.clone());
    // Whoever asks may leave at any time: it is not the test's affair unless it waits for that.
    let _gone = match handler(&head) {
        Reply::Whole(status, body) => {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(text.as_bytes()).await
        }
        Reply::Raw(bytes) => stream.write_all(&bytes).await,
        Reply::Endless(bytes) => loop {
            if let Err(error) = stream.write_all(&bytes).await {
                break Err(error);
            }
        },
        Reply::Silence => {
            let _end = stream.read_u8().await;
            Ok(())
        }
        Reply::Stream(pieces) => play(&mut stream, pieces, left).await,
    };
    let _gone = stream.shutdown().await;
}

async fn play(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mut pieces: UnboundedReceiver<Piece>,
    left: UnboundedSender<()>,
) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    let mut byte = [0];
    loop {
        tokio::select! {
            piece = pieces.recv() => match piece {
                None => return Ok(()),
                Some(Piece::End) => return stream.write_all(b"0\r\n\r\n").await,
                Some(Piece::Bytes(text)) => {
                    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await?;
                    stream.flush().await?;
                }
            },
            _end = stream.read(&mut byte) => {
                let _test_over = left.send(());
                return Ok(());
            }
        }
    }
}
