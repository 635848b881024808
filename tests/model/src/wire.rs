//! Messages as bytes, written apart from the codec under test.

/// A message with its header.
#[must_use]
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

/// The message at the front of `bytes`, if it is whole.
pub fn front(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize;
    Some((bytes[0], bytes.get(5..1 + length)?, 1 + length))
}

/// The whole messages of `bytes`, and how many bytes they leave over.
pub fn all(mut bytes: &[u8]) -> (Vec<(u8, &[u8])>, usize) {
    let mut messages = Vec::new();
    while let Some((tag, body, length)) = front(bytes) {
        messages.push((tag, body));
        bytes = &bytes[length..];
    }
    (messages, bytes.len())
}

/// An ErrorResponse or NoticeResponse.
#[must_use]
pub fn report(tag: u8, severity: &str, code: &str) -> Vec<u8> {
    told(tag, severity, code, "said the model")
}

/// The same with its text.
#[must_use]
pub fn told(tag: u8, severity: &str, code: &str, text: &str) -> Vec<u8> {
    message(tag, format!("S{severity}\0V{severity}\0C{code}\0M{text}\0\0").as_bytes())
}

/// Whether a message is an error that ends the session.
#[must_use]
pub fn is_fatal(tag: u8, body: &[u8]) -> bool {
    tag == b'E' && body.windows(7).any(|w| w == b"VFATAL\0")
}

/// The first string of a body, and the rest.
pub fn cstr(body: &[u8]) -> Option<(String, &[u8])> {
    let end = body.iter().position(|&b| b == 0)?;
    Some((String::from_utf8_lossy(&body[..end]).into_owned(), &body[end + 1..]))
}
