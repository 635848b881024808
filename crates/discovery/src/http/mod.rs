//! An HTTP client for sources: HTTP/1.1, with TLS or without, every answer bounded, no redirects.
//!
//! - `url`: where.
//! - `settings`: TLS and credentials.
//! - `client`: one request over one connection.

pub(crate) mod client;
pub mod settings;
pub mod url;

pub use client::HttpClient;
pub use settings::{CertificateCheck, HttpCredentials, HttpSettings, HttpTls, SecretFrom};
pub use url::{HttpScheme, HttpUrl, UrlError};
