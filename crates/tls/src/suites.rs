//! The cipher suites: those of TLS 1.3 with a key schedule that computes less, those of TLS 1.2 with keys that last.
//!
//! A handshake derives some twenty keys, each by an HMAC under a secret that several of them come from. The library of
//! ciphers begins every HMAC with the two blocks of its key. Here these are computed once for each secret, and not at all
//! for the one that all handshakes begin with. Its SHA-384 does without AVX on processors other than Intel's, too.
//! Source: aws-lc, crypto/fipsmodule/hkdf/hkdf.c, `HKDF_expand`; crypto/fipsmodule/sha/internal.h, `sha512_avx_capable`.
//!
//! In TLS 1.2 no key is renewed, and rustls ends a connection that has sealed 2^24 records by AES-GCM: a session of some
//! hours, or an idle one of months. OpenSSL sets no such bound, so that a client or server of PostgreSQL reaches none, and
//! a proxy between them may not either. What AES-GCM cannot do without is kept: each record has a nonce of its own, made
//! from its number, for 2^64 of them. Source: OpenSSL, ssl/record/methods/tls_common.c, `tls_increment_sequence_ctr`;
//! rustls, crypto/aws_lc_rs/tls12.rs; RFC 5288, 3.

use std::marker::PhantomData;
use std::sync::LazyLock;

use hmac::{Hmac, KeyInit, Mac};
use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use rustls::crypto::hmac::{Hmac as RustlsHmac, Key, Tag};
use rustls::crypto::tls13::{Hkdf, HkdfExpander, HkdfUsingHmac, OkmBlock, OutputLengthError};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, aws_lc_rs};
use rustls::{SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};
use sha2::{Digest, Sha256, Sha384};

/// The library of ciphers, with these suites in their places.
pub(crate) fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    for suite in &mut provider.cipher_suites {
        if let Some(own) = SUITES.iter().find(|own| own.common.suite == suite.suite()) {
            *suite = SupportedCipherSuite::Tls13(own);
        }
        if let Some(own) = LASTING.iter().find(|own| own.common.suite == suite.suite()) {
            *suite = SupportedCipherSuite::Tls12(own);
        }
    }
    provider
}

/// The suites of TLS 1.2.
static LASTING: LazyLock<Vec<Tls12CipherSuite>> = LazyLock::new(|| tls12_for(u64::MAX));

/// The suites of TLS 1.2, whose keys seal so many records.
pub(crate) fn tls12_for(records_max: u64) -> Vec<Tls12CipherSuite> {
    let known = aws_lc_rs::default_provider().cipher_suites;
    let tls12 = known.iter().filter_map(|suite| match suite {
        SupportedCipherSuite::Tls12(suite) => Some(*suite),
        SupportedCipherSuite::Tls13(_) => None,
    });
    let with_limit = |suite: &Tls12CipherSuite| {
        let CipherSuiteCommon { suite: name, hash_provider, .. } = suite.common;
        Tls12CipherSuite {
            common: CipherSuiteCommon { suite: name, hash_provider, confidentiality_limit: records_max },
            prf_provider: suite.prf_provider,
            kx: suite.kx,
            sign: suite.sign,
            aead_alg: suite.aead_alg,
        }
    };
    tls12.map(with_limit).collect()
}

static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    let known = aws_lc_rs::default_provider().cipher_suites;
    known.iter().filter_map(SupportedCipherSuite::tls13).filter_map(with_own_hash).collect()
});

/// The same suite; `None` for a hash that is none of TLS 1.3's.
fn with_own_hash(suite: &'static Tls13CipherSuite) -> Option<Tls13CipherSuite> {
    let (hash_provider, hkdf_provider): (&'static dyn Hash, &'static dyn Hkdf) =
        match suite.common.hash_provider.algorithm() {
            HashAlgorithm::SHA256 => (&SHA256, &HKDF_SHA256),
            HashAlgorithm::SHA384 => (&SHA384, &HKDF_SHA384),
            _none_of_them => return None,
        };
    let CipherSuiteCommon { suite: name, confidentiality_limit, .. } = suite.common;
    Some(Tls13CipherSuite {
        common: CipherSuiteCommon { suite: name, hash_provider, confidentiality_limit },
        hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: None,
    })
}

static SHA256: SuiteHash<Sha256> = SuiteHash { algorithm: HashAlgorithm::SHA256, hash: PhantomData };
static SHA384: SuiteHash<Sha384> = SuiteHash { algorithm: HashAlgorithm::SHA384, hash: PhantomData };
static HKDF_SHA256: SuiteHkdf = SuiteHkdf::new(&SuiteHmac::<Hmac<Sha256>>(PhantomData), &EARLY_SHA256);
static HKDF_SHA384: SuiteHkdf = SuiteHkdf::new(&SuiteHmac::<Hmac<Sha384>>(PhantomData), &EARLY_SHA384);
static EARLY_SHA256: EarlySecret = LazyLock::new(|| HKDF_SHA256.by_hmac.extract_from_zero_ikm(None));
static EARLY_SHA384: EarlySecret = LazyLock::new(|| HKDF_SHA384.by_hmac.extract_from_zero_ikm(None));

/// Of the longest hash of TLS 1.3.
const ZEROS: [u8; 48] = [0; 48];

/// The early secret of all handshakes that resume no session. Source: RFC 8446, 7.1.
type EarlySecret = LazyLock<Box<dyn HkdfExpander>>;

/// A hash of messages.
struct SuiteHash<D> {
    algorithm: HashAlgorithm,
    hash: PhantomData<fn() -> D>,
}

impl<D: Digest + Clone + Send + Sync + 'static> Hash for SuiteHash<D> {
    fn start(&self) -> Box<dyn Context> {
        Box::new(HashedSoFar(D::new()))
    }

    fn hash(&self, data: &[u8]) -> Output {
        Output::new(&D::digest(data))
    }

    fn output_len(&self) -> usize {
        <D as Digest>::output_size()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }
}

struct HashedSoFar<D>(D);

impl<D: Digest + Clone + Send + Sync + 'static> Context for HashedSoFar<D> {
    fn fork_finish(&self) -> Output {
        Output::new(&self.0.clone().finalize())
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(HashedSoFar(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> Output {
        Output::new(&self.0.finalize())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

/// HMAC of a suite's hash.
struct SuiteHmac<M>(PhantomData<fn() -> M>);

impl<M: Mac + KeyInit + Clone + Send + Sync + 'static> RustlsHmac for SuiteHmac<M> {
    fn with_key(&self, key: &[u8]) -> Box<dyn Key> {
        Box::new(KeyedHmac(<M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length")))
    }

    fn hash_output_len(&self) -> usize {
        M::output_size()
    }
}

/// HMAC behind the blocks of its key.
struct KeyedHmac<M>(M);

impl<M: Mac + Clone + Send + Sync + 'static> Key for KeyedHmac<M> {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> Tag {
        let mut mac = self.0.clone();
        mac.update(first);
        middle.iter().for_each(|part| mac.update(part));
        mac.update(last);
        Tag::new(&mac.finalize().into_bytes())
    }

    fn tag_len(&self) -> usize {
        M::output_size()
    }
}

/// HKDF by such an HMAC.
struct SuiteHkdf {
    by_hmac: HkdfUsingHmac<'static>,
    early_secret: &'static EarlySecret,
}

impl SuiteHkdf {
    const fn new(hmac: &'static dyn RustlsHmac, early_secret: &'static EarlySecret) -> Self {
        SuiteHkdf { by_hmac: HkdfUsingHmac(hmac), early_secret }
    }
}

impl SuiteHkdf {
    /// As many as the hash has bytes.
    fn zeros(&self) -> &'static [u8] {
        ZEROS.get(..self.by_hmac.0.hash_output_len()).unwrap_or(&ZEROS)
    }
}

impl Hkdf for SuiteHkdf {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        match salt {
            None => Box::new(KeptSecret(self.early_secret)),
            Some(_) => self.extract_from_secret(salt, self.zeros()),
        }
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        // Unlike rustls' own, in what is erased afterwards.
        let extracted = self.by_hmac.0.with_key(salt.unwrap_or(self.zeros())).sign(&[secret]);
        self.expander_for_okm(&OkmBlock::new(extracted.as_ref()))
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        self.by_hmac.expander_for_okm(okm)
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        self.by_hmac.hmac_sign(key, message)
    }
}

/// A secret that is not computed again.
struct KeptSecret(&'static EarlySecret);

impl HkdfExpander for KeptSecret {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        self.0.expand_slice(info, output)
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        self.0.expand_block(info)
    }

    fn hash_len(&self) -> usize {
        self.0.hash_len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each suite of TLS 1.3 as it is here, and as the library has it.
    fn pairs() -> Vec<(&'static Tls13CipherSuite, &'static Tls13CipherSuite)> {
        let (own, known) = (provider().cipher_suites, aws_lc_rs::default_provider().cipher_suites);
        let names = |suites: &[SupportedCipherSuite]| suites.iter().map(|s| s.suite()).collect::<Vec<_>>();
        assert_eq!(names(&own), names(&known));
        own.iter().zip(&known).filter_map(|(own, known)| Some((own.tls13()?, known.tls13()?))).collect()
    }

    fn derived(secret: &dyn HkdfExpander, info: &[&[u8]], length: usize) -> (Vec<u8>, Vec<u8>) {
        let mut output = vec![0; length];
        secret.expand_slice(info, &mut output).unwrap();
        (output, secret.expand_block(info).as_ref().to_vec())
    }

    #[test]
    fn all_suites_of_tls_1_3_are_replaced() {
        let pairs = pairs();
        assert_eq!(pairs.len(), 3);
        for (own, known) in pairs {
            assert!(SUITES.iter().any(|suite| std::ptr::eq(suite, own)), "{known:?}");
            assert_eq!(own.common.confidentiality_limit, known.common.confidentiality_limit);
        }
    }

    #[test]
    fn no_key_of_tls_1_2_is_used_up() {
        let own = provider().cipher_suites;
        let limits = own.iter().filter_map(|suite| match suite {
            SupportedCipherSuite::Tls12(suite) => Some(suite.common.confidentiality_limit),
            SupportedCipherSuite::Tls13(_) => None,
        });
        assert_eq!(limits.collect::<Vec<_>>(), [u64::MAX; 6]);
    }

    proptest! {
        #[test]
        fn they_hash_as_the_library_of_ciphers_does(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
        ) {
            for (own, known) in pairs() {
                let (own, known) = (own.common.hash_provider, known.common.hash_provider);
                assert_eq!(own.output_len(), known.output_len());
                assert_eq!(own.hash(&parts.concat()).as_ref(), known.hash(&parts.concat()).as_ref());
                let (mut own, mut known) = (own.start(), known.start());
                for part in &parts {
                    own.update(part);
                    known.update(part);
                    assert_eq!(own.fork_finish().as_ref(), known.fork_finish().as_ref());
                }
                assert_eq!(own.fork().finish().as_ref(), known.fork().finish().as_ref());
                assert_eq!(own.finish().as_ref(), known.finish().as_ref());
            }
        }

        #[test]
        fn they_derive_keys_as_the_library_of_ciphers_does(
            secret in prop::collection::vec(any::<u8>(), 0..200),
            salt in prop::option::of(prop::collection::vec(any::<u8>(), 0..64)),
            info in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4),
            length in 0_usize..200,
        ) {
            let info: Vec<&[u8]> = info.iter().map(Vec::as_slice).collect();
            let salt = salt.as_deref();
            for (own, known) in pairs() {
                let (own, known) = (own.hkdf_provider, known.hkdf_provider);
                let of_zero = (own.extract_from_zero_ikm(salt), known.extract_from_zero_ikm(salt));
                let of_secret = (own.extract_from_secret(salt, &secret), known.extract_from_secret(salt, &secret));
                let okm = of_secret.0.expand_block(&info);
                let of_okm = (own.expander_for_okm(&okm), known.expander_for_okm(&okm));
                for (own, known) in [of_zero, of_secret, of_okm] {
                    assert_eq!(own.hash_len(), known.hash_len());
                    assert_eq!(derived(&*own, &info, length), derived(&*known, &info, length));
                }
                assert_eq!(own.hmac_sign(&okm, &secret).as_ref(), known.hmac_sign(&okm, &secret).as_ref());
            }
        }
    }
}
