//! A store that fails as it is told, for tests of what is built on one.
//!
//! It counts what it is asked for, each call of [`ObjectStore`] and of [`StageWriter`] once, and asks a [`Plan`] what is
//! to go wrong with each.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{
    BodyStream, ByteRange, Condition, DeleteCondition, Key, Object, ObjectMeta, ObjectStore, Page, Prefix, Put, Stage,
    StageId, StageState, StageWriter, StorageError, Version,
};

/// How often a delayed operation lets others go first.
const DELAY: usize = 20;

/// What goes wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, for now.
    Unavailable,
    /// It is not done, because something is broken.
    Broken,
    /// It is done, but the answer says that it was not.
    LostAnswer,
    /// The first half of it is done: of a write, a reading or several puts. Of what has no halves, nothing.
    FirstHalf,
    /// The second half of several puts is done. Of anything else, nothing.
    SecondHalf,
    /// It is done, after others and with an answer that comes after theirs.
    Delay,
}

impl Fault {
    pub const ALL: [Fault; 6] =
        [Fault::Unavailable, Fault::Broken, Fault::LostAnswer, Fault::FirstHalf, Fault::SecondHalf, Fault::Delay];

    fn error(self, action: &'static str) -> StorageError {
        match self {
            Fault::Broken => StorageError::io(action)(io::Error::other("injected")),
            _ => StorageError::Unavailable { action, source: "injected".into() },
        }
    }
}

/// Says what is to go wrong with the operation of this number, the first is 1, and name.
pub struct Plan(Box<dyn FnMut(usize, &'static str) -> Option<Fault> + Send>);

impl Plan {
    pub fn none() -> Self {
        Self(Box::new(|_, _| None))
    }

    /// One operation fails.
    pub fn one(number: usize, fault: Fault) -> Self {
        Self(Box::new(move |at, _| (at == number).then_some(fault)))
    }

    /// One operation fails, and the store is away from then on: for the caller, as if he had died there.
    pub fn away_after(number: usize, fault: Fault) -> Self {
        Self(Box::new(move |at, _| match at {
            at if at < number => None,
            at if at == number => Some(fault),
            _ => Some(Fault::Unavailable),
        }))
    }

    /// Each operation fails with this probability, and half of the others are delayed. The same seed gives the same
    /// faults.
    pub fn random(seed: u64, probability: f64) -> Self {
        Self::random_at(|_| true, seed, probability)
    }

    /// The same, but of the operations only those fail that `may_fail` names.
    pub fn random_at(may_fail: impl Fn(&str) -> bool + Send + 'static, seed: u64, probability: f64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self(Box::new(move |_, operation| {
            let fault = Fault::ALL[random.random_range(0..Fault::ALL.len())];
            let is_delayed = random.random_bool(0.5);
            let fails = random.random_bool(probability) && may_fail(operation);
            if fails { Some(fault) } else { is_delayed.then_some(Fault::Delay) }
        }))
    }

    /// By the name of the operation.
    pub fn by_operation(mut fault: impl FnMut(&'static str) -> Option<Fault> + Send + 'static) -> Self {
        Self(Box::new(move |_, operation| fault(operation)))
    }
}

/// Any store, with faults. Clones share the plan.
#[derive(Clone)]
pub struct FaultyStore {
    store: Arc<dyn ObjectStore>,
    is_shared: bool,
    faults: Arc<Mutex<Faults>>,
}

struct Faults {
    plan: Plan,
    /// Since the plan was made.
    operations: Vec<&'static str>,
}

impl FaultyStore {
    /// Without faults at first.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        let faults = Faults { plan: Plan::none(), operations: Vec::new() };
        Self { is_shared: store.is_shared(), store, faults: Arc::new(Mutex::new(faults)) }
    }

    /// The same, but said to be shared with other processes.
    pub fn shared(self) -> Self {
        Self { is_shared: true, ..self }
    }

    /// Begins to count anew.
    pub fn plan(&self, plan: Plan) {
        *self.faults() = Faults { plan, operations: Vec::new() };
    }

    /// What the store was asked for since the plan was made.
    pub fn operations(&self) -> Vec<&'static str> {
        self.faults().operations.clone()
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, operation: &'static str) -> Option<Fault> {
        let mut faults = self.faults();
        faults.operations.push(operation);
        let number = faults.operations.len();
        (faults.plan.0)(number, operation)
    }

    /// Something that is done whole or not at all.
    async fn whole<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        meet(self.next(operation), operation, work).await
    }
}

async fn meet<T>(
    fault: Option<Fault>,
    operation: &'static str,
    work: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    match fault {
        None => work.await,
        Some(Fault::Delay) => {
            let_others_go_first().await;
            let result = work.await;
            let_others_go_first().await;
            result
        }
        Some(fault @ Fault::LostAnswer) => {
            drop(work.await);
            Err(fault.error(operation))
        }
        Some(fault) => Err(fault.error(operation)),
    }
}

async fn let_others_go_first() {
    for _ in 0..DELAY {
        tokio::task::yield_now().await;
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    fn is_shared(&self) -> bool {
        self.is_shared
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StorageError> {
        self.whole("head", self.store.head(key)).await
    }

    async fn get(&self, key: &Key, range: Option<ByteRange>) -> Result<Object, StorageError> {
        let fault = self.next("get");
        if fault != Some(Fault::FirstHalf) {
            return meet(fault, "get", self.store.get(key, range)).await;
        }
        let mut object = self.store.get(key, range).await?;
        object.body = first_half(object.body, (object.range.end - object.range.start) as usize);
        Ok(object)
    }

    async fn put(&self, key: &Key, content: Bytes, condition: Condition) -> Result<Version, StorageError> {
        self.whole("put", self.store.put(key, content, condition)).await
    }

    async fn put_all(&self, mut puts: Vec<Put>) -> Result<(), StorageError> {
        let fault = self.next("put_all");
        let half = puts.len() / 2;
        let done = match fault {
            Some(Fault::FirstHalf) => puts.drain(..half),
            Some(Fault::SecondHalf) => puts.drain(puts.len() - half..),
            other => return meet(other, "put_all", self.store.put_all(puts)).await,
        };
        self.store.put_all(done.collect()).await?;
        Err(Fault::FirstHalf.error("put_all"))
    }

    async fn delete(&self, key: &Key, condition: DeleteCondition) -> Result<(), StorageError> {
        self.whole("delete", self.store.delete(key, condition)).await
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        delimiter: bool,
    ) -> Result<Page, StorageError> {
        self.whole("list", self.store.list(prefix, after, limit, delimiter)).await
    }

    async fn stage_create(&self, id: &StageId) -> Result<(), StorageError> {
        self.whole("stage_create", self.store.stage_create(id)).await
    }

    async fn stage_state(&self, id: &StageId) -> Result<StageState, StorageError> {
        self.whole("stage_state", self.store.stage_state(id)).await
    }

    async fn stage_append(&self, id: &StageId, at: u64) -> Result<Box<dyn StageWriter>, StorageError> {
        let writer = self.whole("stage_append", self.store.stage_append(id, at)).await?;
        Ok(Box::new(FaultyWriter { writer, store: self.clone() }))
    }

    async fn stage_read(&self, id: &StageId) -> Result<BodyStream, StorageError> {
        let fault = self.next("stage_read");
        if fault != Some(Fault::FirstHalf) {
            return meet(fault, "stage_read", self.store.stage_read(id)).await;
        }
        let length = self.store.stage_state(id).await?.length;
        Ok(first_half(self.store.stage_read(id).await?, length as usize))
    }

    async fn stage_abort(&self, id: &StageId) -> Result<(), StorageError> {
        self.whole("stage_abort", self.store.stage_abort(id)).await
    }

    async fn stage_list(&self, after: Option<&StageId>, limit: usize) -> Result<Vec<Stage>, StorageError> {
        self.whole("stage_list", self.store.stage_list(after, limit)).await
    }
}

struct FaultyWriter {
    writer: Box<dyn StageWriter>,
    store: FaultyStore,
}

#[async_trait]
impl StageWriter for FaultyWriter {
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        let fault = self.store.next("stage_write");
        if fault != Some(Fault::FirstHalf) {
            return meet(fault, "stage_write", self.writer.write(pieces)).await;
        }
        let mut half = pieces.concat();
        half.truncate(half.len() / 2);
        self.writer.write(vec![half.into()]).await?;
        Err(Fault::FirstHalf.error("stage_write"))
    }

    async fn finish(self: Box<Self>, memo: Bytes) -> Result<u64, StorageError> {
        self.store.whole("stage_finish", self.writer.finish(memo)).await
    }

    async fn publish(self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        self.store.whole("stage_publish", self.writer.publish(key)).await
    }
}

/// Half of the `length` bytes of `body`, and then an error.
fn first_half(body: BodyStream, length: usize) -> BodyStream {
    let mut left = length / 2;
    let pieces = body.map(move |piece| {
        let mut piece = piece?;
        piece.truncate(left);
        left -= piece.len();
        if piece.is_empty() { Err(io::Error::other("injected")) } else { Ok(piece) }
    });
    let broken = futures::stream::iter([Err(io::Error::other("injected"))]);
    pieces.chain(broken).boxed()
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryStore;
    use super::*;
    use futures::TryStreamExt;
    use rstest::rstest;

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    fn put(name: &str) -> Put {
        Put { key: key(name), content: Bytes::from_static(b"content"), condition: Condition::Always }
    }

    #[rstest]
    #[case::unavailable(Fault::Unavailable, &[], false)]
    #[case::broken(Fault::Broken, &[], false)]
    #[case::lost_answer(Fault::LostAnswer, &["a", "b", "c"], false)]
    #[case::first_half(Fault::FirstHalf, &["a"], false)]
    #[case::second_half(Fault::SecondHalf, &["c"], false)]
    #[case::delay(Fault::Delay, &["a", "b", "c"], true)]
    #[tokio::test]
    async fn some_of_several_puts(#[case] fault: Fault, #[case] expected: &[&str], #[case] is_done: bool) {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        store.plan(Plan::one(1, fault));
        assert_eq!(store.put_all(vec![put("a"), put("b"), put("c")]).await.is_ok(), is_done);
        let page = store.list(&Prefix::all(), None, 10, false).await.unwrap();
        assert_eq!(page.entries.iter().map(|entry| entry.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(store.operations(), ["put_all", "list"]);
    }

    #[tokio::test]
    async fn half_of_a_staged_write() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        let id = StageId::random();
        store.plan(Plan::one(3, Fault::FirstHalf));
        store.stage_create(&id).await.unwrap();
        let mut writer = store.stage_append(&id, 0).await.unwrap();
        writer.write(vec![Bytes::from_static(b"con"), Bytes::from_static(b"tent")]).await.unwrap_err();
        drop(writer);
        assert_eq!(store.stage_state(&id).await.unwrap().length, 3);
    }

    #[tokio::test]
    async fn half_of_what_is_read() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        store.put_all(vec![put("a")]).await.unwrap();
        store.plan(Plan::one(1, Fault::FirstHalf));
        let mut body = store.get(&key("a"), None).await.unwrap().body;
        assert_eq!(body.try_next().await.unwrap().unwrap(), "con");
        body.try_next().await.unwrap_err();
        let whole: Vec<Bytes> = store.get(&key("a"), None).await.unwrap().body.try_collect().await.unwrap();
        assert_eq!(whole.concat(), b"content");
    }

    #[tokio::test]
    async fn a_delayed_operation_comes_after_others() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        store.plan(Plan::one(1, Fault::Delay));
        let (delayed, at_once) = (key("a"), key("a"));
        let (late, early) = tokio::join!(
            store.put(&delayed, Bytes::new(), Condition::IfAbsent),
            store.put(&at_once, Bytes::new(), Condition::IfAbsent)
        );
        assert!(matches!(late, Err(StorageError::PreconditionFailed(_))));
        early.unwrap();
    }

    #[tokio::test]
    async fn a_store_that_goes_away_stays_away() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        store.plan(Plan::away_after(2, Fault::LostAnswer));
        store.put_all(vec![put("a")]).await.unwrap();
        store.put_all(vec![put("b")]).await.unwrap_err();
        store.put_all(vec![put("c")]).await.unwrap_err();
        store.plan(Plan::none());
        store.head(&key("b")).await.unwrap();
        store.head(&key("c")).await.unwrap_err();
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let faults = |seed| {
            let mut plan = Plan::random(seed, 0.5);
            (1..100).map(|number| (plan.0)(number, "get")).collect::<Vec<_>>()
        };
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
    }

    #[test]
    fn is_shared_if_told_so() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        assert!(!store.is_shared());
        assert!(store.shared().is_shared());
    }
}
