//! The certificates that are tried on each leg, and what libpq and PostgreSQL make of them.

/// A certificate of one kind, and those who look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Of its files.
    pub(crate) name: &'static str,
    /// Words of `openssl genpkey`.
    pub(crate) key: &'static str,
    /// The common name.
    pub(crate) common: &'static str,
    /// The other names; empty: none.
    pub(crate) names: &'static str,
    /// What it says of itself otherwise.
    pub(crate) says: &'static str,
    /// Who has signed it.
    pub(crate) signer: Signer,
    /// The file of those whom the other end trusts.
    pub(crate) roots: &'static str,
    /// The file of those who are revoked; empty: none.
    pub(crate) list: &'static str,
    /// The name that is connected to.
    pub(crate) host: &'static str,
    /// What comes of it.
    pub(crate) verdict: Verdict,
    /// Whether whoever has it can use it.
    pub(crate) strength: Strength,
}

/// Who has signed a certificate, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The root.
    Root,
    /// The root, for those years.
    RootFor(i32, i32),
    /// The root, by SHA-1.
    RootBySha1,
    /// A root with an RSA key, by RSASSA-PSS.
    RsaByPss,
    /// An intermediate, which is not sent along.
    Between,
    /// An intermediate, which is sent along.
    BetweenAndSent,
    /// A root of these files that says of itself why it vouches for nobody.
    Unfit(&'static str),
    /// An intermediate, which is sent along, below a root that allows none.
    BelowBound,
    /// A root that nobody trusts.
    Stranger,
    /// One with the name of the root.
    Twin,
    /// Nobody else.
    Itself,
}

impl Signer {
    /// The name of its files, and more words of `openssl x509`.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Root | Self::RootFor(..) | Self::Itself => ("root", ""),
            Self::RootBySha1 => ("root", "-sha1"),
            Self::RsaByPss => (
                "rsa",
                "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -sigopt rsa_mgf1_md:sha256",
            ),
            Self::Between | Self::BetweenAndSent => ("between", ""),
            Self::Unfit(name) => (name, ""),
            Self::BelowBound => ("below_bound", ""),
            Self::Stranger => ("stranger", ""),
            Self::Twin => ("twin", ""),
        }
    }
}

/// What the other end makes of a certificate, be it libpq, PostgreSQL or Trunkline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is taken.
    Taken,
    /// It is, but not by `verify-full`.
    ForOtherHost,
    /// Not by those who verify, and Trunkline says this.
    Refused(&'static str),
    /// The same, and Trunkline does not take it from a server by `require` either: nothing that such a key signs can be
    /// verified.
    KeyTooShort(&'static str),
    /// By libpq and PostgreSQL, while Trunkline does not speak with such keys, and says this of the other end's.
    NotSpoken(&'static str),
}

/// Whether a certificate is too weak for its owner already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    /// It is not.
    Enough,
    /// PostgreSQL does not load it, nor does Trunkline, which says this.
    TooWeak(&'static str),
}

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";

const USUAL: Kind = Kind {
    name: "usual",
    key: P256,
    common: "common.example",
    names: "DNS:localhost,IP:127.0.0.1",
    says: "basicConstraints=CA:FALSE",
    signer: Signer::Root,
    roots: "root.crt",
    list: "",
    host: "localhost",
    verdict: Verdict::Taken,
    strength: Strength::Enough,
};

const UNKNOWN_ISSUER: Verdict =
    Verdict::Refused("certificate verify failed: none of the roots at hand vouches for it");
const NO_LIST: Verdict = Verdict::Refused("no revocation list at hand is of who signed it");
const SHORT: &str = "it has an RSA key of 1024 bits, and 2048 to 8192 are taken; make a new key";
const SHA_1: &str = "it is signed in a way that is too weak, as by SHA-1";

/// Keys, and ways to sign.
const KEYS: [Kind; 10] = [
    USUAL,
    Kind { name: "p384", key: "-algorithm EC -pkeyopt ec_paramgen_curve:P-384", ..USUAL },
    Kind { name: "p521", key: "-algorithm EC -pkeyopt ec_paramgen_curve:P-521", ..USUAL },
    Kind { name: "ed25519", key: "-algorithm ED25519", ..USUAL },
    Kind { name: "rsa_2048", key: "-algorithm RSA -pkeyopt rsa_keygen_bits:2048", ..USUAL },
    Kind { name: "rsa_4096", key: "-algorithm RSA -pkeyopt rsa_keygen_bits:4096", ..USUAL },
    Kind { name: "pss_signature", signer: Signer::RsaByPss, roots: "rsa.crt", ..USUAL },
    Kind {
        name: "pss_key",
        key: "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048",
        verdict: Verdict::NotSpoken("its key is for RSASSA-PSS alone"),
        ..USUAL
    },
    Kind {
        name: "rsa_1024",
        key: "-algorithm RSA -pkeyopt rsa_keygen_bits:1024",
        verdict: Verdict::KeyTooShort(SHORT),
        strength: Strength::TooWeak(SHORT),
        ..USUAL
    },
    Kind {
        name: "sha_1",
        signer: Signer::RootBySha1,
        verdict: Verdict::Refused(SHA_1),
        strength: Strength::TooWeak(SHA_1),
        ..USUAL
    },
];

/// Names, dates and roots.
const ROOTS: [Kind; 15] = [
    Kind {
        name: "expired",
        signer: Signer::RootFor(2019, 2020),
        verdict: Verdict::Refused("has expired"),
        ..USUAL
    },
    Kind {
        name: "early",
        signer: Signer::RootFor(2090, 2091),
        verdict: Verdict::Refused("is not valid yet"),
        ..USUAL
    },
    Kind { name: "other_host", names: "DNS:other.example", verdict: Verdict::ForOtherHost, ..USUAL },
    Kind { name: "common_name", common: "localhost", names: "", ..USUAL },
    Kind { name: "wildcard", names: "DNS:*.0.0.1,DNS:*.pool.example", host: "127.0.0.1", ..USUAL },
    Kind { name: "address", names: "IP:127.0.0.1", host: "127.0.0.1", ..USUAL },
    Kind {
        name: "other_address",
        names: "IP:127.0.0.2",
        host: "127.0.0.1",
        verdict: Verdict::ForOtherHost,
        ..USUAL
    },
    Kind { name: "by_stranger", signer: Signer::Stranger, verdict: UNKNOWN_ISSUER, ..USUAL },
    Kind {
        name: "by_twin",
        signer: Signer::Twin,
        verdict: Verdict::Refused("its signature is not that of the root of this name"),
        ..USUAL
    },
    Kind { name: "own_root", common: "localhost", signer: Signer::Itself, roots: "own_root.crt", ..USUAL },
    Kind { name: "between_sent", signer: Signer::BetweenAndSent, ..USUAL },
    Kind { name: "between_kept", signer: Signer::Between, verdict: UNKNOWN_ISSUER, ..USUAL },
    Kind { name: "between_known", signer: Signer::Between, roots: "both.crt", ..USUAL },
    // The root is somewhere else.
    Kind { name: "known_itself", roots: "known_itself.crt", verdict: UNKNOWN_ISSUER, ..USUAL },
    Kind {
        name: "between_alone",
        signer: Signer::BetweenAndSent,
        roots: "between.crt",
        verdict: UNKNOWN_ISSUER,
        ..USUAL
    },
];

const OTHER_PURPOSE: Verdict = Verdict::Refused("for something else (extendedKeyUsage)");

/// What certificates, and roots, say of themselves.
const USES: [Kind; 8] = [
    // By a configuration for CAs, as `openssl req -x509 -CA root.crt` has it.
    Kind { name: "of_ca", says: "basicConstraints=CA:TRUE", ..USUAL },
    Kind {
        name: "for_both",
        says: "keyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth",
        ..USUAL
    },
    Kind {
        name: "for_certificates",
        says: "basicConstraints=CA:TRUE\nkeyUsage=keyCertSign",
        verdict: Verdict::Refused("for something else (keyUsage)"),
        ..USUAL
    },
    Kind {
        name: "for_anything",
        says: "extendedKeyUsage=anyExtendedKeyUsage",
        verdict: OTHER_PURPOSE,
        ..USUAL
    },
    Kind {
        name: "by_expired",
        signer: Signer::Unfit("old"),
        roots: "old.crt",
        verdict: Verdict::Refused("has expired"),
        ..USUAL
    },
    Kind {
        name: "by_other_purpose",
        signer: Signer::Unfit("code"),
        roots: "code.crt",
        verdict: OTHER_PURPOSE,
        ..USUAL
    },
    Kind {
        name: "by_no_signer",
        signer: Signer::Unfit("sealing"),
        roots: "sealing.crt",
        verdict: UNKNOWN_ISSUER,
        ..USUAL
    },
    Kind {
        name: "below_bound_root",
        signer: Signer::BelowBound,
        roots: "bound.crt",
        verdict: Verdict::Refused("allows fewer below it (basicConstraints pathlen)"),
        ..USUAL
    },
];

/// Lists of those who are revoked.
const LISTS: [Kind; 7] = [
    Kind { name: "not_revoked", list: "nobody.list", ..USUAL },
    Kind {
        name: "revoked",
        list: "revoked.list",
        verdict: Verdict::Refused("the certificate is revoked"),
        ..USUAL
    },
    Kind {
        name: "expired_list",
        list: "expired.list",
        verdict: Verdict::Refused("list has expired"),
        ..USUAL
    },
    Kind { name: "strangers_list", list: "strangers.list", verdict: NO_LIST, ..USUAL },
    Kind { name: "chain_listed", signer: Signer::BetweenAndSent, list: "chain.list", ..USUAL },
    Kind {
        name: "chain_not_listed",
        signer: Signer::BetweenAndSent,
        list: "nobody.list",
        verdict: NO_LIST,
        ..USUAL
    },
    Kind {
        name: "chain_revoked",
        signer: Signer::BetweenAndSent,
        list: "chain_revoked.list",
        verdict: Verdict::Refused("the certificate is revoked"),
        ..USUAL
    },
];

/// All of them.
pub(crate) fn kinds() -> Vec<Kind> {
    [&KEYS[..], &ROOTS, &USES, &LISTS].concat()
}
