//! What is sent to the server before a message of the client.

use crate::carried::content::ContentId;
use crate::names::Name;

/// One thing sent to the server before the client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The statement is dropped.
    Drop(Name),
    /// A statement is prepared by this Parse.
    Parse { name: Name, sql: Box<[u8]>, types: Box<[u8]> },
    /// A statement is prepared by this SQL.
    Run { sql: Box<[u8]> },
    /// Its description is compared with what the client knows.
    Check(Name),
    /// Its description is kept: the client knows none.
    Learn(Name),
    /// A stand-in with this name and parameters of these types, for the client's message to drop, to collide with or to
    /// describe, or for its Bind to be tried on.
    StandIn { name: Name, types: Box<[u8]> },
    /// The client's Bind, of a stand-in; its portal is closed again.
    Bind { body: Box<[u8]>, portal: Name },
    /// An error in the client's series: the statement differs from what the client knows.
    Fail,
    /// A statement is prepared under the name of its content, where none is left, and its description is compared with what
    /// the client knows. The name is that of this SQL and these types.
    MakeContent { name: Name, id: ContentId, sql: Box<[u8]>, types: Box<[u8]> },
    /// The description of a statement is kept, which stands under the name of its content.
    LearnContent { name: Name, id: ContentId },
    /// The statement of a content is dropped.
    CloseContent(ContentId),
    /// Nothing is done: once it is answered, so is all that was sent before it.
    Await,
}
