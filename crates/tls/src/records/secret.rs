//! Records that carry a secret, such as a password: no copy of it is to stay but that which is given out.

use zeroize::Zeroizing;

use super::{Opened, Records, TlsError};

impl Records {
    /// Whether what is opened from here on is a secret.
    pub fn set_opens_secrets(&mut self, opens_secrets: bool) {
        self.opens_secrets = opens_secrets;
    }

    /// Whether what is opened is a secret.
    #[must_use]
    pub fn opens_secrets(&self) -> bool {
        self.opens_secrets
    }

    /// Opens records where they are not left: the bytes that came stay sealed.
    pub(super) fn open_secret(
        &mut self,
        sealed: &[u8],
        mut plain: impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        let mut came = Zeroizing::new([&self.rest, sealed].concat());
        let mut longest = 0;
        let noted = |some: &[u8]| {
            longest = longest.max(some.len());
            plain(some);
        };
        let (done, opened) = self.side.open(&mut came, self.is_settled, noted, out);
        self.rest = came[done..].to_vec();
        // rustls has freed a copy of each record just now, and the allocator gives such memory again first.
        drop(Zeroizing::new(Vec::<u8>::with_capacity(longest)));
        opened
    }
}
