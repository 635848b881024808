//! Every bound the codec enforces, with its origin.
//!
//! A "length" is the value of the length word of a message: it counts itself and the body, but not
//! the type byte.

/// Shortest first packet, in bytes, length word included: a length and a code.
/// Source: PostgreSQL 18, src/backend/tcop/backend_startup.c, `ProcessStartupPacket`.
pub const STARTUP_PACKET_MIN: u32 = 8;

/// Longest first packet, in bytes, length word included.
/// Source: PostgreSQL 18, src/include/libpq/pqcomm.h, `MAX_STARTUP_PACKET_LENGTH` (10000), which
/// does not count the length word.
pub const STARTUP_PACKET_MAX: u32 = 10_004;

/// Longest name, in bytes; PostgreSQL cuts longer ones.
/// Source: PostgreSQL 18, src/include/pg_config_manual.h, `NAMEDATALEN`, less its NUL.
pub const NAME_BYTES_MAX: usize = 63;

/// Shortest secret key of a session, in bytes: the only size protocol 3.0 knows.
/// Source: PostgreSQL 18, protocol manual, `BackendKeyData`.
pub const SECRET_KEY_MIN: usize = 4;

/// Longest secret key of a session, in bytes, for protocol 3.2.
/// Source: PostgreSQL 18, protocol manual, `BackendKeyData`.
pub const SECRET_KEY_MAX: usize = 256;

/// Largest length of the messages that may be large: `Q`, `P`, `B`, `F`, `d` from a client.
/// Source: PostgreSQL 18, src/include/libpq/libpq.h, `PQ_LARGE_MESSAGE_LIMIT` (`MaxAllocSize - 1`).
pub const FRONTEND_LARGE_MAX: u32 = 0x3FFF_FFFE;

/// Largest length of every other message from a client.
/// Source: PostgreSQL 18, src/include/libpq/libpq.h, `PQ_SMALL_MESSAGE_LIMIT`.
pub const FRONTEND_SMALL_MAX: u32 = 10_000;

/// Largest length of a `p` message (password, GSS token, SASL response).
/// Source: PostgreSQL 18, src/include/libpq/auth.h, `PG_MAX_AUTH_TOKEN_LENGTH`.
pub const AUTH_TOKEN_MAX: u32 = 65_535;

/// Largest SCRAM message, in bytes.
/// Source: PostgreSQL 18, src/include/libpq/sasl.h, `PG_MAX_SASL_MESSAGE_LENGTH`.
pub const SCRAM_MESSAGE_MAX: usize = 1024;

/// Longest salt of a SCRAM verifier, in bytes. Ours: with the nonces of PostgreSQL its message, which has the salt in
/// base64, stays below [`SCRAM_MESSAGE_MAX`].
pub const SCRAM_SALT_MAX: usize = 700;

/// Most PBKDF2 iterations this crate will compute for a peer: each costs two SHA-256 runs, and
/// the count comes from the other side.
/// Source: postgres-protocol 0.6.12 and pgjdbc 42.7.11 (CVE-2026-42198) chose the same number.
pub const SCRAM_ITERATIONS_MAX: u32 = 100_000;

/// Iterations PostgreSQL gives a new SCRAM verifier.
/// Source: PostgreSQL 18, src/include/common/scram-common.h, `SCRAM_SHA_256_DEFAULT_ITERATIONS`.
pub const SCRAM_ITERATIONS_DEFAULT: u32 = 4096;

/// Largest length of `D`, `d`, `E`, `N`, `A`, `T`, `V` from a server: the body is a `StringInfo`,
/// at most `MaxAllocSize - 1` bytes, and the length word comes on top.
/// Source: PostgreSQL 18, src/common/stringinfo.c, `enlargeStringInfo`.
pub const BACKEND_LARGE_MAX: u32 = 0x3FFF_FFFE + 4;

/// Largest length of a ParameterDescription: 65,535 parameter types.
/// Source: PostgreSQL 18, src/backend/tcop/postgres.c, `exec_describe_statement_message`.
pub const PARAMETER_DESCRIPTION_MAX: u32 = 4 + 2 + 4 * 65_535;

/// Largest length of every other message from a server: libpq takes more for lost synchronization.
/// Source: PostgreSQL 18, src/interfaces/libpq/fe-protocol3.c, `VALID_LONG_MESSAGE_TYPE`.
pub const BACKEND_SMALL_MAX: u32 = 30_000;

/// Largest length of an Authentication request.
/// Source: PostgreSQL 18, src/interfaces/libpq/fe-connect.c, `PQconnectPoll`.
pub const AUTHENTICATION_REQUEST_MAX: u32 = 2000;

/// Largest length of a NegotiateProtocolVersion.
/// Source: PostgreSQL 18, src/interfaces/libpq/fe-connect.c, `PQconnectPoll`.
pub const NEGOTIATE_PROTOCOL_VERSION_MAX: u32 = 2000;

/// Largest length of an ErrorResponse (and here NoticeResponse) before login has ended; a larger
/// claim is an error in the style of protocol 2, which has no length at all.
/// Source: PostgreSQL 18, src/interfaces/libpq/fe-connect.c, `MAX_ERRLEN`.
pub const LOGIN_ERROR_MAX: u32 = 30_000;

/// Longest text of an error in the style of protocol 2, in bytes, `E` and NUL not counted.
/// Source: PostgreSQL 18, src/backend/postmaster/postmaster.c, `report_fork_failure_to_client`
/// (a buffer of 1000 bytes).
pub const OLD_STYLE_ERROR_MAX: usize = 1000;

/// Largest message, in bytes, type byte included, that the scanner hands out in one piece.
/// Ours: an eighth of the read buffer, so that a kept tail leaves it most of its room.
pub const WHOLE_MAX: usize = 32 * 1024;

/// Fewest body bytes with the first piece of a message larger than [`WHOLE_MAX`].
/// Ours: enough for the names that lead a Parse or Bind (a name is at most 63 bytes, unless the
/// client makes it longer).
pub const PREFIX_MIN: usize = 1024;

/// Longest text per field that we put in an ErrorResponse or NoticeResponse of our own, in bytes.
/// Ours: three of them stay below [`LOGIN_ERROR_MAX`].
pub const REPORT_TEXT_MAX: usize = 8 * 1024;
