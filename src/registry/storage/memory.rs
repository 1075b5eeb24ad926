//! Objects in memory, for tests: the same clauses as any other back end, and nothing survives.
//!
//! Reads and writes let other tasks go first, as they do where a disk has to be waited for: what goes wrong only between
//! two of them would never be seen otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use super::{
    BodyStream, ByteRange, Condition, DeleteCondition, Entry, Key, Object, ObjectMeta, ObjectStore, Page, Prefix, Put,
    Stage, StageId, StageState, StageWriter, StorageError, Version,
};

/// A store that lives as long as its clones.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    is_shared: bool,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Stored>,
    stages: BTreeMap<StageId, Staged>,
    stuck: BTreeSet<StageId>,
    last_version: u64,
}

#[derive(Clone)]
struct Stored {
    content: Bytes,
    version: u64,
    modified: SystemTime,
}

struct Staged {
    content: Vec<u8>,
    modified: SystemTime,
    busy: bool,
    /// With the length that it is about.
    memo: Option<(u64, Bytes)>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// One that says that other processes use it too.
    pub fn shared() -> Self {
        Self { is_shared: true, ..Self::default() }
    }

    /// From now on this staged upload can't be removed.
    pub fn make_stuck(&self, id: StageId) {
        self.state().stuck.insert(id);
    }

    /// The state is changed by single assignments, so a panic elsewhere can't leave it half-changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    fn meta(&self) -> ObjectMeta {
        ObjectMeta { size: self.content.len() as u64, version: self.version(), modified: self.modified }
    }

    fn version(&self) -> Version {
        Version::new(self.version.to_string())
    }
}

impl State {
    fn object(&self, key: &Key) -> Result<&Stored, StorageError> {
        self.objects.get(key.as_str()).ok_or_else(|| StorageError::NotFound(key.to_string()))
    }

    fn stage(&mut self, id: &StageId) -> Result<&mut Staged, StorageError> {
        self.stages.get_mut(id).ok_or_else(|| StorageError::NotFound(id.to_string()))
    }

    fn check_conflict(&self, key: &Key) -> Result<(), StorageError> {
        let below = format!("{key}/");
        let has_below = self.objects.range(below.clone()..).next().is_some_and(|(other, _)| other.starts_with(&below));
        if has_below || key.ancestors().any(|ancestor| self.objects.contains_key(ancestor)) {
            return Err(StorageError::KeyConflict(key.to_string()));
        }
        Ok(())
    }

    fn insert(&mut self, key: &Key, content: Bytes) -> Version {
        self.last_version += 1;
        let stored = Stored { content, version: self.last_version, modified: SystemTime::now() };
        let version = stored.version();
        self.objects.insert(key.to_string(), stored);
        version
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn is_shared(&self) -> bool {
        self.is_shared
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StorageError> {
        self.state().object(key).map(Stored::meta)
    }

    async fn get(&self, key: &Key, range: Option<ByteRange>) -> Result<Object, StorageError> {
        tokio::task::yield_now().await;
        let stored = self.state().object(key)?.clone();
        let meta = stored.meta();
        let range = range.map_or(Ok(0..meta.size), |range| range.resolve(meta.size))?;
        let part = stored.content.slice(range.start as usize..range.end as usize);
        Ok(Object { meta, range, body: pieces(part) })
    }

    async fn put(&self, key: &Key, content: Bytes, condition: Condition) -> Result<Version, StorageError> {
        tokio::task::yield_now().await;
        let mut state = self.state();
        let current = state.objects.get(key.as_str()).map(Stored::version);
        let holds = match condition {
            Condition::Always => true,
            Condition::IfAbsent => current.is_none(),
            Condition::IfVersion(version) => current == Some(version),
        };
        if !holds {
            return Err(StorageError::PreconditionFailed(key.to_string()));
        }
        state.check_conflict(key)?;
        Ok(state.insert(key, content))
    }

    async fn put_all(&self, puts: Vec<Put>) -> Result<(), StorageError> {
        for Put { key, content, condition } in puts {
            let is_optional = condition == Condition::IfAbsent;
            match self.put(&key, content, condition).await {
                Err(StorageError::PreconditionFailed(_)) if is_optional => {}
                other => other.map(drop)?,
            }
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, condition: DeleteCondition) -> Result<(), StorageError> {
        let mut state = self.state();
        let current = state.object(key)?.version();
        if let DeleteCondition::IfVersion(version) = condition
            && version != current
        {
            return Err(StorageError::PreconditionFailed(key.to_string()));
        }
        state.objects.remove(key.as_str());
        Ok(())
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        delimiter: bool,
    ) -> Result<Page, StorageError> {
        let state = self.state();
        let mut entries: Vec<Entry> = Vec::new();
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        for key in state.objects.range::<str, _>(from).map(|(key, _)| key.as_str()) {
            let Some(rest) = key.strip_prefix(prefix.as_str()) else { break };
            let text = match rest.split_once('/') {
                Some((name, _)) if delimiter => &key[..prefix.as_str().len() + name.len() + 1],
                _ => key,
            };
            let seen = entries.last().is_some_and(|last| last.as_str() == text);
            if seen || after.is_some_and(|after| text <= after) {
                continue;
            }
            if entries.len() == limit {
                return Ok(Page { entries, more: true });
            }
            let valid = "a part of a valid key is valid";
            entries.push(match text.ends_with('/') {
                true => Entry::Prefix(Prefix::new(text).expect(valid)),
                false => Entry::Object(Key::new(text).expect(valid)),
            });
        }
        Ok(Page { entries, more: false })
    }

    async fn stage_create(&self, id: &StageId) -> Result<(), StorageError> {
        let staged = Staged { content: Vec::new(), modified: SystemTime::now(), busy: false, memo: None };
        let mut state = self.state();
        if state.stages.contains_key(id) {
            return Err(StorageError::PreconditionFailed(id.to_string()));
        }
        state.stages.insert(*id, staged);
        Ok(())
    }

    async fn stage_state(&self, id: &StageId) -> Result<StageState, StorageError> {
        let mut state = self.state();
        let staged = state.stage(id)?;
        let length = staged.content.len() as u64;
        let memo = staged.memo.clone().filter(|(about, _)| *about == length).map(|(_, memo)| memo);
        Ok(StageState { length, memo })
    }

    async fn stage_append(&self, id: &StageId, at: u64) -> Result<Box<dyn StageWriter>, StorageError> {
        let mut state = self.state();
        let staged = state.stage(id)?;
        if staged.busy {
            return Err(StorageError::Busy(id.to_string()));
        }
        if staged.content.len() as u64 != at {
            return Err(StorageError::PreconditionFailed(id.to_string()));
        }
        staged.busy = true;
        Ok(Box::new(MemoryStageWriter { store: self.clone(), id: *id }))
    }

    async fn stage_read(&self, id: &StageId) -> Result<BodyStream, StorageError> {
        let content = Bytes::copy_from_slice(&self.state().stage(id)?.content);
        Ok(pieces(content))
    }

    async fn stage_abort(&self, id: &StageId) -> Result<(), StorageError> {
        let mut state = self.state();
        if state.stage(id)?.busy {
            return Err(StorageError::Busy(id.to_string()));
        }
        if state.stuck.contains(id) {
            let source = std::io::ErrorKind::PermissionDenied.into();
            return Err(StorageError::Io { action: "remove a staged upload", source });
        }
        state.stages.remove(id);
        Ok(())
    }

    async fn stage_list(&self, after: Option<&StageId>, limit: usize) -> Result<Vec<Stage>, StorageError> {
        let state = self.state();
        let behind = state.stages.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        Ok(behind.take(limit).map(|(id, staged)| Stage { id: *id, modified: staged.modified }).collect())
    }
}

struct MemoryStageWriter {
    store: MemoryStore,
    id: StageId,
}

#[async_trait]
impl StageWriter for MemoryStageWriter {
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        let mut state = self.store.state();
        let staged = state.stage(&self.id)?;
        pieces.iter().for_each(|piece| staged.content.extend_from_slice(piece));
        staged.modified = SystemTime::now();
        Ok(())
    }

    async fn finish(self: Box<Self>, memo: Bytes) -> Result<u64, StorageError> {
        let mut state = self.store.state();
        let staged = state.stage(&self.id)?;
        let length = staged.content.len() as u64;
        staged.memo = Some((length, memo));
        Ok(length)
    }

    async fn publish(self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        let mut state = self.store.state();
        let content = Bytes::copy_from_slice(&state.stage(&self.id)?.content);
        if !state.objects.contains_key(key.as_str()) {
            state.check_conflict(key)?;
            state.insert(key, content);
        }
        state.stages.remove(&self.id);
        Ok(())
    }
}

impl Drop for MemoryStageWriter {
    fn drop(&mut self) {
        if let Ok(staged) = self.store.state().stage(&self.id) {
            staged.busy = false;
        }
    }
}

/// Small pieces, so that tests meet content that comes in several.
fn pieces(content: Bytes) -> BodyStream {
    const PIECE: usize = 64 * 1024;
    let starts = (0..content.len()).step_by(PIECE);
    let parts: Vec<_> = starts.map(|start| Ok(content.slice(start..content.len().min(start + PIECE)))).collect();
    futures::stream::iter(parts).boxed()
}
