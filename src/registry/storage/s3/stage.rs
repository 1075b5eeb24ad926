//! Staged uploads: a state and chunks, in a folder of their own.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::super::{BodyStream, Condition, Key, Stage, StageId, StageState, StageWriter, StorageError, Version};
use super::bucket::Bucket;
use super::chunks::{Chunk, Chunks};
use super::list::Listing;
use super::publish::compose;

/// Requests that one listing or reading makes at the same time.
const CONCURRENT: usize = 16;
/// Entries that are asked for at once where all are wanted.
const PAGE: usize = 1000;

/// What the object `state` says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    chunks: Vec<Chunk>,
    /// In Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memo: Option<String>,
}

impl State {
    fn length(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.size).sum()
    }

    fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("names and numbers make valid JSON").into()
    }
}

fn state_name(bucket: &Bucket, id: &StageId) -> String {
    format!("{}state", bucket.upload(id))
}

async fn read_state(bucket: &Arc<Bucket>, id: &StageId) -> Result<(State, Version), StorageError> {
    let (content, version) = match bucket.whole(state_name(bucket, id)).await {
        Err(StorageError::NotFound(_)) => return Err(StorageError::NotFound(id.to_string())),
        other => other?,
    };
    let unreadable = StorageError::io("read an upload's state");
    let state = serde_json::from_slice(&content).map_err(|error| unreadable(error.into()))?;
    Ok((state, version))
}

pub(super) async fn create(bucket: &Bucket, id: &StageId) -> Result<(), StorageError> {
    let created = bucket.put(&state_name(bucket, id), State::default().to_bytes(), Condition::IfAbsent).await;
    created.map(drop).map_err(|error| match error {
        StorageError::PreconditionFailed(_) => StorageError::PreconditionFailed(id.to_string()),
        other => other,
    })
}

pub(super) async fn state(bucket: &Arc<Bucket>, id: &StageId) -> Result<StageState, StorageError> {
    let (state, _) = read_state(bucket, id).await?;
    let memo = state.memo.as_ref().and_then(|memo| BASE64_STANDARD.decode(memo).ok());
    Ok(StageState { length: state.length(), memo: memo.map(Bytes::from) })
}

pub(super) async fn append(
    bucket: &Arc<Bucket>,
    writing: &Arc<Mutex<HashSet<StageId>>>,
    id: &StageId,
    at: u64,
) -> Result<Box<dyn StageWriter>, StorageError> {
    let turn = Turn::take(writing, id)?;
    let (state, version) = read_state(bucket, id).await?;
    if state.length() != at {
        return Err(StorageError::PreconditionFailed(id.to_string()));
    }
    let chunks = Chunks::new(bucket.clone(), bucket.upload(id), state.chunks.clone());
    Ok(Box::new(Writer { bucket: bucket.clone(), turn, before: state, version, chunks, has_written: false }))
}

pub(super) async fn read(bucket: &Arc<Bucket>, id: &StageId) -> Result<BodyStream, StorageError> {
    let (state, _) = read_state(bucket, id).await?;
    let (bucket, folder) = (bucket.clone(), bucket.upload(id));
    let open = move |chunk: Chunk| {
        let (bucket, name) = (bucket.clone(), format!("{folder}{}", chunk.name));
        async move { bucket.get(name, None).await.map(|object| object.body).map_err(std::io::Error::other) }
    };
    Ok(futures::stream::iter(state.chunks).then(open).try_flatten().boxed())
}

pub(super) async fn abort(
    bucket: &Arc<Bucket>,
    writing: &Arc<Mutex<HashSet<StageId>>>,
    id: &StageId,
) -> Result<(), StorageError> {
    let _turn = Turn::take(writing, id)?;
    let found = objects(bucket, id).await?;
    if found.is_empty() {
        return Err(StorageError::NotFound(id.to_string()));
    }
    // Without its state it is no upload any more, whatever becomes of the rest.
    bucket.delete(&state_name(bucket, id)).await?;
    bucket.delete_all(&found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()).await
}

/// All objects of an upload, also of writers that were lost, and when they were written.
async fn objects(bucket: &Bucket, id: &StageId) -> Result<Vec<(String, SystemTime)>, StorageError> {
    let folder = bucket.upload(id);
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let Listing { names, objects, more } = bucket.list_page(&folder, after.as_deref(), PAGE, false).await?;
        found.extend(objects.into_iter().filter_map(|object| {
            let modified = object.last_modified.and_then(|time| SystemTime::try_from(time).ok());
            Some((object.key?, modified.unwrap_or(SystemTime::UNIX_EPOCH)))
        }));
        match names.into_iter().next_back() {
            Some(last) if more => after = Some(last),
            _ => return Ok(found),
        }
    }
}

pub(super) async fn list(
    bucket: &Arc<Bucket>,
    after: Option<&StageId>,
    limit: usize,
) -> Result<Vec<Stage>, StorageError> {
    let root = bucket.uploads();
    let mut after = after.map(|after| bucket.upload(after));
    let mut ids: Vec<StageId> = Vec::new();
    while ids.len() < limit {
        let page = bucket.list_page(&root, after.as_deref(), limit - ids.len(), true).await?;
        let id = |name: &String| name.strip_prefix(&root)?.strip_suffix('/')?.parse::<StageId>().ok();
        ids.extend(page.names.iter().filter_map(id));
        match page.names.into_iter().next_back() {
            Some(last) if page.more => after = Some(last),
            _ => break,
        }
    }
    let stage = |id: StageId| async move {
        let modified = objects(bucket, &id).await?.into_iter().map(|(_, modified)| modified).max();
        // Published or aborted meanwhile. It is listed all the same: fewer than the limit would mean the end.
        Ok(Stage { id, modified: modified.unwrap_or_else(SystemTime::now) })
    };
    futures::stream::iter(ids).map(stage).buffered(CONCURRENT).try_collect().await
}

/// The right to change a staged upload, among the tasks of this process.
struct Turn {
    writing: Arc<Mutex<HashSet<StageId>>>,
    id: StageId,
}

impl Turn {
    fn take(writing: &Arc<Mutex<HashSet<StageId>>>, id: &StageId) -> Result<Self, StorageError> {
        if !writing.lock().unwrap_or_else(PoisonError::into_inner).insert(*id) {
            return Err(StorageError::Busy(id.to_string()));
        }
        Ok(Self { writing: writing.clone(), id: *id })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

struct Writer {
    bucket: Arc<Bucket>,
    turn: Turn,
    /// What the writer found, and has to find again to get through.
    before: State,
    version: Version,
    chunks: Chunks,
    has_written: bool,
}

#[async_trait]
impl StageWriter for Writer {
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        if pieces.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        if !self.has_written {
            self.chunks.reopen().await?;
            self.has_written = true;
        }
        self.chunks.write(pieces).await
    }

    async fn finish(self: Box<Self>, memo: Bytes) -> Result<u64, StorageError> {
        let Self { bucket, turn, before, version, chunks, has_written: _ } = *self;
        let state = State { chunks: chunks.finish().await?, memo: Some(BASE64_STANDARD.encode(memo)) };
        if state == before {
            return Ok(state.length());
        }
        let put = bucket.put(&state_name(&bucket, &turn.id), state.to_bytes(), Condition::IfVersion(version)).await;
        if let Err(StorageError::PreconditionFailed(_)) = put {
            // Another process has written to it, published or aborted it meanwhile.
            return Err(StorageError::Busy(turn.id.to_string()));
        }
        put?;
        // Small ones that have gone into larger ones.
        let obsolete = those_not_in(&before.chunks, &state.chunks);
        remove(&bucket, &turn.id, obsolete).await;
        Ok(state.length())
    }

    async fn publish(self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        let Self { bucket, turn, before, version: _, chunks, has_written: _ } = *self;
        let (chunks, rest) = chunks.settle().await?;
        compose(&bucket, &bucket.object(key), &bucket.upload(&turn.id), &chunks, rest).await?;
        bucket.delete(&state_name(&bucket, &turn.id)).await?;
        let new = those_not_in(&chunks, &before.chunks);
        remove(&bucket, &turn.id, before.chunks.iter().chain(new)).await;
        Ok(())
    }
}

/// Of two lists that begin alike, what the first has behind that. There may be thousands of chunks.
fn those_not_in<'a>(chunks: &'a [Chunk], others: &[Chunk]) -> std::slice::Iter<'a, Chunk> {
    let common = chunks.iter().zip(others).take_while(|(one, other)| one == other).count();
    chunks[common..].iter()
}

/// Best effort: what stays is found with the abandoned uploads.
async fn remove(bucket: &Bucket, id: &StageId, chunks: impl Iterator<Item = &Chunk>) {
    let folder = bucket.upload(id);
    let names: Vec<String> = chunks.map(|chunk| format!("{folder}{}", chunk.name)).collect();
    if let Err(error) = bucket.delete_all(&names).await {
        tracing::warn!(upload = %id, %error, "can't remove chunks that are not needed any more");
    }
}
