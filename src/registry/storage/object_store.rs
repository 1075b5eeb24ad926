//! The trait that every back end implements, and the types it speaks in.

use std::fmt;
use std::io;
use std::ops::Range;
use std::str::FromStr;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use uuid::Uuid;

use super::{Key, Prefix, StorageError};

/// Content in pieces. A piece is at most a few hundred KiB, so that a slow reader costs little memory.
pub type BodyStream = BoxStream<'static, io::Result<Bytes>>;

/// Objects under keys, and staged uploads that become objects.
///
/// # Guarantees
/// - *Atomic*: an object is absent, old or new to every reader, never a part of itself. A reader that has started
///   goes on with the content it started with.
/// - *Durable*: what a method reports as done survives the process's death and a power failure. So does what it
///   reports as being there already: [`StorageError::PreconditionFailed`] to [`Condition::IfAbsent`] means that the
///   other writer's object is durable.
/// - *Linear*: conditions on one key are decided one after the other.
/// - *Dropping* a future or a writer at any point leaves a valid store and no garbage but the staged upload itself.
///
/// # Assumptions
/// - No key lies below another: `a` and `a/b` can't both be objects ([`StorageError::KeyConflict`]; a store such as
///   S3 that could hold both need not check).
/// - Small content goes through [`put`](ObjectStore::put), large content through a staged upload.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Whether other processes may change the store at the same time.
    fn is_shared(&self) -> bool {
        false
    }

    /// Size and version of an object.
    async fn head(&self, key: &Key) -> Result<ObjectMeta, StorageError>;

    /// Opens an object, or a part of it.
    async fn get(&self, key: &Key, range: Option<ByteRange>) -> Result<Object, StorageError>;

    /// Writes a whole object.
    async fn put(&self, key: &Key, content: Bytes, condition: Condition) -> Result<Version, StorageError>;

    /// Writes several objects and makes them durable together, which costs less than one after the other.
    ///
    /// One that is there already and was to be written only if absent is no failure. After an error, or a crash, any of
    /// them may be there: what must not be seen without the others goes into a later call.
    async fn put_all(&self, puts: Vec<Put>) -> Result<(), StorageError>;

    /// Removes an object; [`StorageError::NotFound`] if there is none.
    async fn delete(&self, key: &Key, condition: DeleteCondition) -> Result<(), StorageError>;

    /// At most `limit` entries below `prefix` whose text is greater than `after`, in byte order.
    ///
    /// With `delimiter`, what lies deeper than one level is one [`Entry::Prefix`] each. To go on, pass the last
    /// entry's text as `after`.
    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        delimiter: bool,
    ) -> Result<Page, StorageError>;

    /// Starts an empty staged upload. It exists until it is published or aborted, also across restarts. A power failure
    /// may undo this as long as nothing in it is durable.
    async fn stage_create(&self, id: &StageId) -> Result<(), StorageError>;

    /// What a staged upload holds durably. Bytes that an unfinished writer wrote may be among them.
    async fn stage_state(&self, id: &StageId) -> Result<StageState, StorageError>;

    /// Opens a staged upload for writing at its end, which must be `at`, else [`StorageError::PreconditionFailed`].
    /// There is one writer at a time, else [`StorageError::Busy`].
    async fn stage_append(&self, id: &StageId, at: u64) -> Result<Box<dyn StageWriter>, StorageError>;

    /// Reads what a staged upload holds, from its start. A writer may be open meanwhile.
    async fn stage_read(&self, id: &StageId) -> Result<BodyStream, StorageError>;

    /// Removes a staged upload; [`StorageError::Busy`] while it is written to. A power failure may undo this.
    async fn stage_abort(&self, id: &StageId) -> Result<(), StorageError>;

    /// At most `limit` staged uploads behind `after`, in the order of their ids. Fewer means that there are no more.
    async fn stage_list(&self, after: Option<&StageId>, limit: usize) -> Result<Vec<Stage>, StorageError>;

    /// Removes what processes that died have left besides staged uploads and began at `limit` or before, and says how
    /// much that was. Most stores have nothing of the kind.
    async fn remove_remains(&self, _limit: SystemTime) -> Result<usize, StorageError> {
        Ok(0)
    }
}

/// A store that can put damaged objects where nobody meets them but the person who looks after the store.
#[async_trait]
pub trait Quarantine: Send + Sync + 'static {
    /// Takes an object out of the store without reading or deleting it; [`StorageError::NotFound`] if there is none.
    async fn set_aside(&self, key: &Key) -> Result<(), StorageError>;
}

/// A store whose objects can be read by who has the right address, without passing through this process.
#[async_trait]
pub trait SignedUrls: Send + Sync + 'static {
    /// An address that gives the object to whoever asks for it, for a time. Whether there is one is not looked up.
    async fn signed_url(&self, key: &Key) -> Result<String, StorageError>;
}

/// The only writer of a staged upload, as long as it lives.
///
/// Dropped without [`finish`](StageWriter::finish), it leaves some of what it wrote: a prefix of it, as long as
/// [`ObjectStore::stage_state`] says.
#[async_trait]
pub trait StageWriter: Send {
    /// Appends `pieces`, in their order. What was written is there to be read once [`finish`](StageWriter::finish) has
    /// returned; some of it may be earlier.
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError>;

    /// Makes what was written durable, and returns the new length. [`ObjectStore::stage_state`] gives `memo`, a few
    /// hundred bytes of the caller's, together with this length.
    async fn finish(self: Box<Self>, memo: Bytes) -> Result<u64, StorageError>;

    /// Turns the staged upload into an object, in one step. If `key` exists already, that object stays and this is a
    /// success: meant for keys that name their content.
    ///
    /// It is the writer's method so that nobody can add to the content between its check and its publication.
    async fn publish(self: Box<Self>, key: &Key) -> Result<(), StorageError>;
}

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// In bytes.
    pub size: u64,
    pub version: Version,
    pub modified: SystemTime,
}

/// An object that is being read.
pub struct Object {
    pub meta: ObjectMeta,
    /// The bytes of the object that `body` gives.
    pub range: Range<u64>,
    pub body: BodyStream,
}

/// Tells one state of an object from another. It has no meaning but equality. States of equal content may be equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(Box<str>);

impl Version {
    pub(super) fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    #[cfg(feature = "s3")]
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// When a [`put`](ObjectStore::put) is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Always,
    IfAbsent,
    /// Compare-and-swap. An object that is not there has no version.
    IfVersion(Version),
}

/// One of several objects that are written together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub key: Key,
    pub content: Bytes,
    pub condition: Condition,
}

/// When a [`delete`](ObjectStore::delete) is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteCondition {
    Always,
    IfVersion(Version),
}

/// A part of an object, as a request asks for it (RFC 9110, section 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From here to the end.
    From(u64),
    /// From the first to the last of these, or to the object's end.
    Inclusive(u64, u64),
    /// The last so many bytes, or the whole object.
    Suffix(u64),
}

impl ByteRange {
    /// The bytes of an object of `size` bytes that are meant.
    pub fn resolve(self, size: u64) -> Result<Range<u64>, StorageError> {
        let range = match self {
            ByteRange::From(first) => first..size,
            ByteRange::Inclusive(first, last) => first..last.saturating_add(1).min(size),
            ByteRange::Suffix(length) => size.saturating_sub(length)..size,
        };
        if range.is_empty() { Err(StorageError::RangeNotSatisfiable { size }) } else { Ok(range) }
    }
}

/// One part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// Whether there are entries behind the last of these.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Object(Key),
    Prefix(Prefix),
}

impl Entry {
    pub fn as_str(&self) -> &str {
        match self {
            Entry::Object(key) => key.as_str(),
            Entry::Prefix(prefix) => prefix.as_str(),
        }
    }
}

/// Names a staged upload. Random, so that nobody can guess another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageId(Uuid);

impl StageId {
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StageId {
    type Err = &'static str;

    /// Takes only what [`fmt::Display`] prints, so that one staged upload has one name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = Uuid::try_parse(text).ok().map(Self);
        id.filter(|id| id.to_string() == text).ok_or("a staged upload is named by a lower-case UUID with hyphens")
    }
}

/// What is known of a staged upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageState {
    /// In bytes.
    pub length: u64,
    /// What the writer that ended at this length was given to keep. A store that one process owns may forget it.
    pub memo: Option<Bytes>,
}

/// A staged upload in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub id: StageId,
    /// When it was last written to, or a time before that if the store doesn't know.
    pub modified: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::whole(ByteRange::From(0), Some(0..10))]
    #[case::end(ByteRange::From(9), Some(9..10))]
    #[case::behind_the_end(ByteRange::From(10), None)]
    #[case::middle(ByteRange::Inclusive(2, 3), Some(2..4))]
    #[case::over_the_end(ByteRange::Inclusive(8, u64::MAX), Some(8..10))]
    #[case::backwards(ByteRange::Inclusive(3, 2), None)]
    #[case::suffix(ByteRange::Suffix(3), Some(7..10))]
    #[case::long_suffix(ByteRange::Suffix(30), Some(0..10))]
    #[case::empty_suffix(ByteRange::Suffix(0), None)]
    fn a_range_of_ten_bytes(#[case] range: ByteRange, #[case] expected: Option<Range<u64>>) {
        assert_eq!(range.resolve(10).ok(), expected);
    }

    #[test]
    fn a_stage_has_one_name() {
        let id = StageId::random();
        assert_eq!(id.to_string().parse::<StageId>().unwrap(), id);
        for other in ["", "x", &id.to_string().replace('-', ""), &format!("{{{id}}}"), &format!("urn:uuid:{id}")] {
            assert!(other.parse::<StageId>().is_err(), "{other}");
        }
    }
}
